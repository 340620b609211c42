"""Spot instances: what AWS announces to them, and that it keeps its word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rehearsal.conftest import SPOTTY, Cloud
from tests.rehearsal.test_machines import Yard, ask, metadata_token


@pytest.fixture
def yard(cloud: Cloud, tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(cloud, tmp_path)
    yield yard
    yard.machines.close()


def notices(yard: Yard, instance_id: str) -> list[int]:
    """The statuses of the two questions about Spot."""
    metadata = yard.agent_env(instance_id)["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    token = metadata_token(metadata)
    paths = ("meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance")
    return [ask(metadata, path, X_aws_ec2_metadata_token=token)[0] for path in paths]


def test_a_spot_instance_is_told_and_then_taken_back(yard: Yard) -> None:
    yard.group = SPOTTY
    instance_id = yard.boot()
    assert notices(yard, instance_id) == [404, 404]
    yard.cloud.add_fault(spot="rebalance")
    yard.machines.step()
    assert notices(yard, instance_id) == [404, 200]
    yard.cloud.add_fault(spot="interruption", notice_s=90.0)
    yard.machines.step()
    assert notices(yard, instance_id) == [200, 200]
    yard.now += 89.0
    yard.machines.step()
    assert not yard.machines.tree(instance_id).exited
    yard.now += 1.0
    yard.settle()
    assert "taken back by AWS" in yard.told[-1]
    assert not yard.member(instance_id).alive


def test_an_on_demand_instance_is_never_taken_back(yard: Yard) -> None:
    instance_id = yard.boot()
    yard.cloud.add_fault(spot="interruption", notice_s=1.0)
    yard.now += 60.0
    yard.machines.step()
    assert notices(yard, instance_id) == [404, 404]
