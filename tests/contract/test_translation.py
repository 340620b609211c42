"""An AWS that does not answer, or says not now, is Unavailable: for every adapter, and nothing else is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from control_plane.aws import AwsCloud, open_autoscaling
from control_plane.aws_session import aws_session
from control_plane.books import Bill, BillKind, Limit, Tally
from control_plane.dynamo import (
    DynamoFence,
    DynamoKeys,
    DynamoLaunches,
    DynamoLimits,
    DynamoModels,
    DynamoNodes,
    DynamoOverrides,
    DynamoSessions,
    DynamoUsage,
    DynamoWishes,
    open_dynamo,
)
from control_plane.errors import Stale, Unavailable
from control_plane.nodes import NodeId
from control_plane.ports import Launch
from rehearsal.faults import Fault
from tests.contract.groups import AwsGroups
from tests.contract.under_test import Desk, Stores
from tests.memory import FakeClock, MemoryKeys

ATTEMPTS = 3
GONE = NodeId("i-00000000000000000")
LAUNCH = Launch("token-1", "small", "group", "us-east-1a", "spot", 1.0)
BILL = Bill("i-1", BillKind.NODE, 1.0, 100.0, 1_000_000)

CALLS: Mapping[str, tuple[str, Callable[[Stores], Awaitable[object]]]] = {
    "nodes": ("Scan", lambda stores: stores.nodes.list()),
    "wishes": ("UpdateItem", lambda stores: stores.wishes.sleep("small", by="ann", at=1.0)),
    "launches": ("PutItem", lambda stores: stores.launches.intend(LAUNCH)),
    "settling": ("DeleteItem", lambda stores: stores.launches.settle("token-1")),
    "models": ("UpdateItem", lambda stores: stores.models.forgive("small")),
    "keys": ("Scan", lambda stores: stores.keys.list()),
    "sessions": ("GetItem", lambda stores: stores.sessions.get("ab")),
    "overrides": ("GetItem", lambda stores: stores.overrides.list()),
    "usage": ("Query", lambda stores: stores.usage.list("ann", "2026-11")),
    "tallies": (
        "UpdateItem",
        lambda stores: stores.usage.add([Tally("ann", "2026-11-23T00:00", "m", requests=1)], writer="a", number=1),
    ),
    "bills": ("PutItem", lambda stores: stores.usage.close(BILL)),
    "growing bills": ("UpdateItem", lambda stores: stores.usage.extend(BILL)),
    "limits": ("UpdateItem", lambda stores: stores.limits.set(Limit("deployment", 1, 2))),
    "fence": ("UpdateItem", lambda stores: stores.fence.take("task-1")),
}


async def outcomes(stores: Stores) -> Mapping[str, object]:
    """All at once: the SDK waits between its attempts, and nobody else should wait for that nine times."""
    results = await asyncio.gather(*(call(stores) for _, call in CALLS.values()), return_exceptions=True)
    return {what: type(result) for what, result in zip(CALLS, results, strict=True)}


async def test_a_throttled_table_is_unavailable(dynamo_stores: Stores, desk: Desk) -> None:
    for operation, _ in CALLS.values():
        desk.faults.add(Fault("throttle", f"dynamodb:{operation}", times=ATTEMPTS))
    assert await outcomes(dynamo_stores) == dict.fromkeys(CALLS, Unavailable)
    assert not desk.faults.pending("throttle")


async def test_a_failure_that_passes_is_not_noticed(dynamo_stores: Stores, desk: Desk) -> None:
    desk.faults.add(Fault("fail", "dynamodb:UpdateItem", times=ATTEMPTS - 1))
    assert (await dynamo_stores.fence.take("task-1")).epoch == 1


async def test_a_tally_whose_reply_was_lost_counts_once(dynamo_stores: Stores, desk: Desk) -> None:
    tally = Tally("ann", "2026-11-23T00:00", "small", requests=1)
    desk.faults.add(Fault("lose_reply", "dynamodb:UpdateItem"))
    await dynamo_stores.usage.add([tally], writer="a", number=1)
    assert await dynamo_stores.usage.list("ann", "2026-11") == [tally]


async def test_a_table_that_does_not_exist_is_unavailable(desk: Desk) -> None:
    async with open_dynamo(aws_session()) as client:
        with pytest.raises(Unavailable, match="ResourceNotFoundException"):
            await DynamoNodes(client, "nowhere").list()


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


async def test_a_dynamodb_behind_a_closed_port_is_unavailable(closed_port: None) -> None:
    async with open_dynamo(aws_session()) as client:
        stores = Stores(
            nodes=DynamoNodes(client, "test"),
            wishes=DynamoWishes(client, "test"),
            launches=DynamoLaunches(client, "test"),
            models=DynamoModels(client, "test"),
            keys=DynamoKeys(client, "test"),
            usage=DynamoUsage(client, "test"),
            limits=DynamoLimits(client, "test"),
            fence=DynamoFence(client, "test", clock=FakeClock()),
            sessions=DynamoSessions(client, "test"),
            overrides=DynamoOverrides(client, "test"),
        )
        assert await outcomes(stores) == dict.fromkeys(CALLS, Unavailable)


async def test_an_auto_scaling_behind_a_closed_port_is_unavailable(closed_port: None) -> None:
    async with open_autoscaling(aws_session()) as client:
        cloud = AwsCloud(client, "test")
        calls = (cloud.groups(), cloud.launch(LAUNCH), cloud.terminate(GONE), cloud.release(GONE, "group"))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 4


async def test_a_throttled_auto_scaling_is_unavailable(aws_groups: AwsGroups, desk: Desk) -> None:
    cloud = aws_groups.cloud
    for operation in (
        "DescribeAutoScalingGroups",
        "LaunchInstances",
        "TerminateInstanceInAutoScalingGroup",
        "CompleteLifecycleAction",
    ):
        desk.faults.add(Fault("throttle", f"autoscaling:{operation}", times=ATTEMPTS))
    calls = (cloud.groups(), cloud.launch(LAUNCH), cloud.terminate(GONE), cloud.release(GONE, "group"))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 4
    assert not desk.faults.pending("throttle")


async def test_a_launch_whose_reply_was_lost_is_one_instance(aws_groups: AwsGroups, desk: Desk) -> None:
    group = aws_groups.add()
    launch = Launch(f"{group}-token", "small", group, "us-east-1a", "on-demand", 1.0)
    desk.faults.add(Fault("lose_reply", "autoscaling:LaunchInstances", times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await aws_groups.cloud.launch(launch)
    instance = await aws_groups.cloud.launch(launch)
    (told,) = await aws_groups.cloud.groups()
    assert (told.desired, told.instances) == (1, (instance,))


async def test_a_fake_fails_when_told_before_its_effect_or_after() -> None:
    keys = MemoryKeys()
    keys.broken.fail("list")
    with pytest.raises(Unavailable):
        await keys.list()
    keys.broken.fail("list", Stale("lost"))
    with pytest.raises(Stale):
        await keys.list()
    assert await keys.list() == []
