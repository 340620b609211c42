"""The price file, written anew from AWS's price list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from control_plane.price_list import SERVICES, refresh
from control_plane.prices import FILE, Prices

TODAY = date(2026, 12, 1)


def product(usage: str, *prices: tuple[str, str]) -> str:
    """As the list tells one: prices by the beginning of their range."""
    dimensions = {str(n): {"beginRange": begin, "pricePerUnit": {"USD": usd}} for n, (begin, usd) in enumerate(prices)}
    return json.dumps(
        {"product": {"attributes": {"usagetype": usage}}, "terms": {"OnDemand": {"x": {"priceDimensions": dimensions}}}}
    )


class Listing:
    """The price list of one region: every type at 2.5 $, every service at 0.07 $, in two pages."""

    def __init__(self, **instead: list[str]) -> None:
        self.instead = instead
        self.asked: list[Mapping[str, str]] = []

    def get_products(self, **query: Any) -> Mapping[str, Any]:
        filters = {each["Field"]: each["Value"] for each in query["Filters"]}
        self.asked.append(filters)
        kind = filters.get("instanceType")
        if kind in self.instead:
            return {"PriceList": self.instead[kind]}
        if kind:
            return {"PriceList": [product(f"EUC1-BoxUsage:{kind}", ("0", "2.5000000000"))]}
        if "NextToken" not in query:
            return {"PriceList": [product("EUC1-Something:Else", ("0", "9"))], "NextToken": "more"}
        return {"PriceList": [product(f"EUC1-{each.usage}", ("0", "0"), ("0", "0.07")) for each in SERVICES]}


def test_every_price_of_machines_is_taken_and_the_file_is_dated_and_read_again() -> None:
    listing = Listing()
    done = refresh(FILE.read_text(), listing, region="eu-central-1", today=TODAY)
    told = Prices.of_json(done.text)
    assert (told.region, told.date) == ("eu-central-1", TODAY)
    assert {kind.usd_per_hour for kind in told.instance_types.values()} == {2.5}
    assert told.services.gp3_usd_per_gb_month == told.services.fargate_arm_vcpu_usd_per_hour == 0.07
    assert told.services.gp3_usd_per_mib_s_month == 0.07 / 1024  # the list counts in GiB/s
    assert told.services.public_ipv4_usd_per_hour == told.services.fargate_x86_gb_usd_per_hour == 0.07
    assert all(filters["regionCode"] == "eu-central-1" for filters in listing.asked)
    assert not done.kept
    assert "g5.xlarge: 1.006 -> 2.5" in done.changed


def test_a_price_that_the_list_does_not_give_or_gives_twice_stays_and_is_told() -> None:
    before = Prices.of_json(FILE.read_text())
    twice = [product("BoxUsage:g6.xlarge", ("0", "1")), product("BoxUsage:g6.xlarge", ("0", "2"))]
    done = refresh(FILE.read_text(), Listing(**{"g5.xlarge": [], "g6.xlarge": twice}), region="us-east-1", today=TODAY)
    told = Prices.of_json(done.text)
    for kind in ("g5.xlarge", "g6.xlarge"):
        assert told.instance_types[kind] == before.instance_types[kind]
        assert kind in done.kept
    assert "g5.xlarge" in json.loads(done.text)["services"]["source"]


def test_a_file_that_is_as_the_list_says_does_not_change_but_for_its_date() -> None:
    once = refresh(FILE.read_text(), Listing(), region="us-east-1", today=TODAY)
    again = refresh(once.text, Listing(), region="us-east-1", today=TODAY)
    assert (again.changed, again.text) == ([], once.text)
