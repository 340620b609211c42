"""What EC2 tells of an instance's cost: by the account on this machine, and by answers as AWS words them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError, ConnectionClosedError

from control_plane.aws import AwsCloud
from control_plane.aws_session import aws_session
from control_plane.books import Lifetime
from control_plane.ec2 import Ec2
from control_plane.errors import Unavailable
from control_plane.nodes import NodeId
from control_plane.outside import adapters
from control_plane.settings import Settings
from tests.contract.under_test import Desk

LAUNCHED = datetime(2026, 11, 29, 9, 0, 0, tzinfo=UTC)
ENDED = datetime(2026, 11, 29, 10, 0, 7, tzinfo=UTC)


class Telling:
    """A session whose one client, itself, answers so, or fails so."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self._answer = answer
        self.asked: list[Mapping[str, Any]] = []

    def client(self, service_name: str, *, config: AioConfig) -> AbstractAsyncContextManager[Any]:
        assert service_name == "ec2"
        return nullcontext(self)

    async def describe_instances(self, *, InstanceIds: Sequence[str]) -> Mapping[str, Any]:
        return self._told(InstanceIds=InstanceIds)

    async def describe_spot_price_history(self, **query: Any) -> Mapping[str, Any]:
        return self._told(**query)

    def _told(self, **query: Any) -> Mapping[str, Any]:
        self.asked.append(query)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def instance(state: str, reason: str = "") -> Mapping[str, Any]:
    told = {"LaunchTime": LAUNCHED, "State": {"Name": state}, "StateTransitionReason": reason}
    return {"Reservations": [{"Instances": [told]}]}


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeInstances")


@pytest.mark.parametrize(
    ("state", "reason", "ended"),
    [
        ("terminated", "User initiated (2026-11-29 10:00:07 GMT)", ENDED),
        ("shutting-down", "User initiated (2026-11-29 10:00:07 UTC)", ENDED),
        ("terminated", "Server.SpotInstanceTermination", None),
        ("terminated", "", None),
        ("running", "", None),
        ("running", "User initiated (2026-11-29 10:00:07 GMT)", None),
    ],
)
async def test_an_instances_times_are_read_from_its_state(state: str, reason: str, ended: datetime | None) -> None:
    life = await Ec2(Telling(instance(state, reason))).lifetime(NodeId("i-1"))
    assert life == Lifetime(LAUNCHED.timestamp(), ended.timestamp() if ended else None)


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "UnauthorizedOperation"])
async def test_of_what_ec2_does_not_know_or_tell_nothing_is_known(code: str) -> None:
    assert await Ec2(Telling(refusal(code))).lifetime(NodeId("i-1")) == Lifetime()
    assert await Ec2(Telling({"Reservations": []})).lifetime(NodeId("i-1")) == Lifetime()


@pytest.mark.parametrize(
    "error", [refusal("RequestLimitExceeded"), ConnectionClosedError(endpoint_url="x"), TimeoutError()]
)
async def test_an_ec2_that_does_not_answer_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable, match="EC2"):
        await Ec2(Telling(error)).lifetime(NodeId("i-1"))
    with pytest.raises(Unavailable, match="EC2"):
        await Ec2(Telling(error)).spot_usd_per_hour("g5.xlarge", "us-east-1a")


async def test_spot_s_price_is_that_of_the_type_and_zone_now() -> None:
    client = Telling({"SpotPriceHistory": [{"SpotPrice": "0.301200"}]})
    assert await Ec2(client).spot_usd_per_hour("g5.xlarge", "us-east-1a") == 0.3012
    (query,) = client.asked
    assert (query["InstanceTypes"], query["AvailabilityZone"], query["MaxResults"]) == (["g5.xlarge"], "us-east-1a", 1)
    assert await Ec2(Telling({"SpotPriceHistory": []})).spot_usd_per_hour("g5.xlarge", "us-east-1a") is None


async def test_the_account_on_this_machine_is_asked_in_its_own_words(desk: Desk) -> None:
    async with Ec2(aws_session()) as ec2:
        assert await ec2.lifetime(NodeId("i-0123456789abcdef0")) == Lifetime()
        price = await ec2.spot_usd_per_hour("g5.xlarge", "us-east-1a")
        assert price is None or price > 0


@pytest.mark.parametrize("streams", [True, False])
async def test_the_largest_client_is_made_ahead_for_who_streams_alone(desk: Desk, streams: bool) -> None:
    """A task would stand still while it is made; a wake seldom needs it."""
    async with adapters(Settings(), streams=streams) as outside:
        assert isinstance(outside.cloud, AwsCloud)
        assert outside.cloud._ec2
        assert bool(outside.cloud._ec2._client) is streams
