"""AWS's own price list, asked by the operator: ``python -m control_plane prices refresh``.

The control plane never asks it: a price is a fact of the file that came with the version, and has its date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

ENDPOINT_REGION = "us-east-1"
"""The price list of all regions is served from a few of them."""

_INSTANCE = {"tenancy": "Shared", "operatingSystem": "Linux", "preInstalledSw": "NA", "capacitystatus": "Used"}


class NoPrice(Exception):
    """The list has not exactly one price for what was asked."""


class Client(Protocol):
    """The one call of the price list's client."""

    def get_products(self, **query: Any) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Question:
    """A price of the file, and where the list has it."""

    name: str  # of the file, under ``services``
    service: str
    filters: Mapping[str, str]
    usage: str  # how the product's usage type ends; region and prefix come before it
    per: int = 1  # how many of the file's units are one of the list's


SERVICES = (
    Question(
        "gp3UsdPerGbMonth", "AmazonEC2", {"productFamily": "Storage", "volumeApiName": "gp3"}, "EBS:VolumeUsage.gp3"
    ),
    Question(
        "gp3UsdPerMibSMonth",
        "AmazonEC2",
        {"productFamily": "Provisioned Throughput", "volumeApiName": "gp3"},
        "EBS:VolumeP-Throughput.gp3",
        per=1024,  # the list counts in GiB/s
    ),
    Question("publicIpv4UsdPerHour", "AmazonVPC", {"group": "VPCPublicIPv4Address"}, "PublicIPv4:InUseAddress"),
    Question("fargateArmVcpuUsdPerHour", "AmazonECS", {"cputype": "perCPU"}, "Fargate-ARM-vCPU-Hours:perCPU"),
    Question("fargateArmGbUsdPerHour", "AmazonECS", {"memorytype": "perGB"}, "Fargate-ARM-GB-Hours"),
    Question("fargateX86VcpuUsdPerHour", "AmazonECS", {"cputype": "perCPU"}, "Fargate-vCPU-Hours:perCPU"),
    Question("fargateX86GbUsdPerHour", "AmazonECS", {"memorytype": "perGB"}, "Fargate-GB-Hours"),
)
"""What machines cost beside their instance; the other services are of the estimate at rest alone."""


@dataclass(frozen=True)
class Refreshed:
    """The new file, what changed in it, and what could not be had and stays as it was."""

    text: str
    changed: Sequence[str]
    kept: Sequence[str]


def refresh(text: str, client: Client, *, region: str, today: date) -> Refreshed:
    """A price file for a region, from one that exists. A price that the list does not give stays, and is told."""
    told = json.loads(text)
    taking = _Taking(client, region)
    for name, row in told["instanceTypes"]["types"].items():
        query = {**_INSTANCE, "instanceType": name}
        taking.take(row, "usdPerHour", Question(name, "AmazonEC2", query, f"BoxUsage:{name}"))
    for question in SERVICES:
        taking.take(told["services"], question.name, question)
    told |= {"region": region, "date": today.isoformat()}
    told["instanceTypes"]["source"] = f"AWS's price list of {region}, EC2 On-Demand, Linux, as of {today}"
    older = f"; of an older list: {', '.join(taking.kept)}" if taking.kept else ""
    told["services"]["source"] = f"AWS's price list of {region} as of {today}{older}; what is not of machines: older"
    return Refreshed(json.dumps(told, indent=2) + "\n", taking.changed, taking.kept)


class _Taking:
    """Prices from the list into their places."""

    def __init__(self, client: Client, region: str) -> None:
        self._client = client
        self._region = region
        self.changed: list[str] = []
        self.kept: list[str] = []

    def take(self, row: dict[str, Any], key: str, question: Question) -> None:
        try:
            price = _price(self._client, question, self._region) / question.per
        except NoPrice:
            self.kept.append(question.name)
            return
        if price != row[key]:
            self.changed.append(f"{question.name}: {row[key]} -> {price}")
            row[key] = price


def _price(client: Client, question: Question, region: str) -> float:
    """US dollars a unit. Raises NoPrice."""
    prices = {
        price
        for product in _products(client, question, region)
        if str(product["product"]["attributes"].get("usagetype", "")).endswith(question.usage)
        for price in _on_demand(product)
    }
    if len(prices) != 1:
        raise NoPrice(f"{question.name}: {sorted(prices)}")
    return prices.pop()


def _products(client: Client, question: Question, region: str) -> Iterator[Mapping[str, Any]]:
    filters = {**question.filters, "regionCode": region}
    query: dict[str, Any] = {
        "ServiceCode": question.service,
        "Filters": [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()],
    }
    while True:
        page = client.get_products(**query)
        yield from (json.loads(product) for product in page["PriceList"])
        if not page.get("NextToken"):
            return
        query["NextToken"] = page["NextToken"]


def _on_demand(product: Mapping[str, Any]) -> Iterator[float]:
    """What a unit costs from the first on; free tiers and discounts by volume have ranges of their own."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = float(dimension["pricePerUnit"].get("USD", 0))
            if price > 0 and float(dimension.get("beginRange", 0)) == 0:
                yield price
