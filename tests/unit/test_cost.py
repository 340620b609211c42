"""What it costs, item by item, and that the README says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from control_plane.cost import Item, at_rest, at_rest_usd, control_plane_awake, markdown, node_awake
from control_plane.deployment import Deployment, Edge
from control_plane.geometry import Unread
from control_plane.instance_types import UnknownInstanceType
from control_plane.rates import Sizes, node_rate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def prod() -> Deployment:
    """The stack that comes with the project, with an owner."""
    config = yaml.safe_load((ROOT / "Pulumi.prod.yaml").read_text())["config"]
    values = {name.removeprefix("diogenes:"): value for name, value in config.items() if name.startswith("diogenes:")}
    values["allowedEmails"] = ["me@example.com"]
    region = config["aws:region"]
    read = Unread("not asked", asked=False)
    return Deployment.parse(values, project="diogenes", stack="prod", region=region, read_geometry=lambda *_: read)


def dollars(items: Sequence[Item]) -> float:
    return sum(item.usd for item in items)


def test_rest_costs_about_17_dollars_a_month_and_nearly_all_of_it_is_the_load_balancer(prod: Deployment) -> None:
    balancer = at_rest(prod)[0]
    assert balancer.usd == pytest.approx(730 * 0.0225)
    assert 16.5 < at_rest_usd(prod) < 17.5
    assert balancer.usd / at_rest_usd(prod) > 0.95


def test_what_rests_costs_the_same_however_many_models_are_configured(prod: Deployment) -> None:
    assert at_rest_usd(replace(prod, models=())) == at_rest_usd(prod)


def test_a_public_load_balancer_pays_for_its_addresses(prod: Deployment) -> None:
    public = replace(prod, edge=Edge.PUBLIC, zones=2)
    assert at_rest_usd(public) - at_rest_usd(prod) == pytest.approx(2 * 3.65)


def test_an_hour_awake_is_the_task_its_address_and_a_little_of_the_load_balancer(prod: Deployment) -> None:
    quarter = replace(prod, cpu=256, memory=512)
    task, address, use = control_plane_awake(quarter)
    assert task.usd == pytest.approx(0.25 * 0.03238 + 0.5 * 0.00356)
    assert (address.usd, use.usd) == (0.005, 0.008)
    assert dollars(control_plane_awake(replace(quarter, architecture="amd64"))) > dollars(control_plane_awake(quarter))
    assert dollars(control_plane_awake(prod)) > dollars(control_plane_awake(quarter))


def test_an_hour_of_a_node_is_the_instance_its_volume_and_its_address(prod: Deployment) -> None:
    instance, volume, address = node_awake(prod, "g5.xlarge")
    assert (instance.usd, address.usd) == (1.006, 0.005)
    assert volume.usd == pytest.approx(100 * 0.08 / 730)
    with pytest.raises(UnknownInstanceType):
        node_awake(prod, "t3.micro")


def test_what_the_volume_carries_beyond_the_free_is_in_the_estimate_and_in_the_bill(prod: Deployment) -> None:
    quick = replace(prod, root_volume_mib_s=500)
    surcharge = 375 * 0.04 / 730
    assert dollars(node_awake(quick, "g5.xlarge")) - dollars(node_awake(prod, "g5.xlarge")) == pytest.approx(surcharge)
    billed = [node_rate("g5.xlarge", Sizes(root_volume_mib_s=carried)).per_hour for carried in (125, 500)]
    assert billed[1] - billed[0] == pytest.approx(surcharge * 1e6, abs=1)


def test_the_tables_show_every_item_every_model_and_the_sum(prod: Deployment) -> None:
    told = markdown(prod)
    for item in (*at_rest(prod), *control_plane_awake(prod)):
        assert f"| {item.name} |" in told
    for model in prod.models:
        assert f"| {model.name} |" in told
    assert f"**{at_rest_usd(prod):.2f}**" in told
    assert "96%, is the load balancer" in told


def test_the_readme_has_the_tables_as_they_are_computed(prod: Deployment) -> None:
    _, begun, rest = (ROOT / "README.md").read_text().partition("<!-- cost -->\n")
    shown, ended, _ = rest.partition("<!-- /cost -->")
    assert begun and ended, "README.md has no <!-- cost --> … <!-- /cost -->"  # noqa: PT018
    assert shown.strip() == markdown(prod)
