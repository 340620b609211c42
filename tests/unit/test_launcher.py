"""Down the ladder of markets and zones, and what is remembered on the way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from control_plane.errors import LaunchMisconfigured, LaunchRefused, NoCapacity, QuotaExceeded, Unavailable
from control_plane.launcher import CannotLaunch, Launcher
from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from control_plane.ports import Group, Instance, Launch
from gpu_node.protocol import Failure, NodeState
from tests.memory import FakeClock, MemoryLaunches, MemoryNodes
from tests.memory_cloud import MemoryCloud

SPOT = Group("g-spot", "m", "spot", ("a", "b"), max_size=4, desired=0)
ON_DEMAND = Group("g-od", "m", "on-demand", ("a", "b"), max_size=4, desired=0)
OTHER = Group("g-x", "x", "on-demand", ("a",), max_size=4, desired=0)
BOTH = (ON_DEMAND, OTHER, SPOT)
NONE = NoCapacity("InsufficientInstanceCapacity", "none left")
QUOTA = QuotaExceeded("VcpuLimitExceeded", "limit of 0")
WRONG = LaunchMisconfigured("UnauthorizedOperation", "not allowed")


def model(market: str) -> Model:
    return Model.parse({"name": "m", "instanceTypes": ["g6.xlarge", "g5.xlarge"], "market": market})


class Bench:
    """A launcher over a cloud whose refusals a test writes down."""

    def __init__(self) -> None:
        self.cloud, self.nodes, self.launches, self.clock = MemoryCloud(), MemoryNodes(), MemoryLaunches(), FakeClock()
        for group in BOTH:
            self.cloud.add_group(group)
        tokens = (f"t{number}" for number in itertools.count(1))
        self.launcher = Launcher(
            self.cloud, self.nodes, self.launches, clock=self.clock, token=lambda: next(tokens), lease_s=300.0
        )

    def refuse(self, group: Group, error: LaunchRefused, zones: str = "ab") -> None:
        for zone in zones:
            self.cloud.refusals[group.name, zone] = error

    @property
    def tried(self) -> list[tuple[str, str]]:
        return [(launch.group, launch.zone) for launch in self.cloud.launches]

    async def failure(self, market: str = "spot-then-on-demand") -> Failure:
        with pytest.raises(CannotLaunch) as refused:
            await self.launcher.start(model(market), BOTH)
        assert self.launches.rows == {}
        assert self.nodes.rows == {}
        return refused.value.failure


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_first_rung_that_has_one_is_taken(bench: Bench) -> None:
    await bench.launcher.start(model("spot-then-on-demand"), BOTH)
    assert bench.tried == [("g-spot", "a")]
    (row,) = bench.nodes.rows.values()
    assert (row.state, row.group, row.market, row.zone) == (NodeState.PENDING, "g-spot", "spot", "a")
    assert (row.launched_at, row.lease_until) == (bench.clock.now, bench.clock.now + 300)
    assert bench.launches.rows == {}


async def test_markets_and_then_zones_are_tried_in_order(bench: Bench) -> None:
    bench.refuse(SPOT, NONE)
    bench.refuse(ON_DEMAND, NONE, "a")
    await bench.launcher.start(model("spot-then-on-demand"), BOTH)
    assert bench.tried == [("g-spot", "a"), ("g-spot", "b"), ("g-od", "a"), ("g-od", "b")]
    assert len({launch.token for launch in bench.cloud.launches}) == 4
    assert [row.zone for row in bench.nodes.rows.values()] == ["b"]


@pytest.mark.parametrize(("market", "groups"), [("spot", {"g-spot"}), ("on-demand", {"g-od"})])
async def test_only_the_models_own_markets_are_tried(bench: Bench, market: str, groups: set[str]) -> None:
    for group in BOTH:
        bench.refuse(group, NONE)
    await bench.failure(market)
    assert {group for group, _ in bench.tried} == groups


@pytest.mark.parametrize("error", [QUOTA, WRONG])
async def test_what_no_other_zone_can_help_skips_the_groups_other_zones(bench: Bench, error: LaunchRefused) -> None:
    bench.refuse(SPOT, error)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH)
    assert bench.tried == [("g-spot", "a"), ("g-od", "a")]


async def test_every_refusal_is_named(bench: Bench) -> None:
    bench.refuse(SPOT, QUOTA)
    bench.refuse(ON_DEMAND, NONE)
    failure = await bench.failure()
    assert (failure.code, failure.permanent) == ("no_gpu_capacity", False)
    for part in ("g6.xlarge or g5.xlarge", "spot in a: VcpuLimit", "on-demand in a: Insuff", "on-demand in b: Insuff"):
        assert part in failure.message


async def test_a_quota_that_is_too_small_is_named_with_its_number(bench: Bench) -> None:
    bench.refuse(ON_DEMAND, QUOTA)
    failure = await bench.failure("on-demand")
    assert (failure.code, failure.permanent) == ("gpu_quota_exceeded", True)
    assert "limit of 0" in failure.message
    assert "L-DB2E81BA" in failure.fix


async def test_two_quotas_that_are_too_small_are_no_lack_of_capacity(bench: Bench) -> None:
    bench.refuse(SPOT, QUOTA)
    bench.refuse(ON_DEMAND, QUOTA)
    assert (await bench.failure()).code == "gpu_quota_exceeded"


async def test_a_misconfiguration_everywhere_is_told_as_one(bench: Bench) -> None:
    bench.refuse(SPOT, WRONG)
    bench.refuse(ON_DEMAND, WRONG)
    failure = await bench.failure()
    assert (failure.code, failure.permanent) == ("launch_misconfigured", True)
    assert "not allowed" in failure.message


async def test_a_model_without_a_group_is_told_to_pulumi_up(bench: Bench) -> None:
    with pytest.raises(CannotLaunch) as refused:
        await bench.launcher.start(model("spot"), [OTHER])
    assert (refused.value.failure.code, refused.value.failure.permanent) == ("no_group", True)


# -- intents


async def test_the_intent_stands_before_the_call(bench: Bench) -> None:
    bench.launches.broken.fail("intend")
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("spot"), BOTH)
    assert bench.cloud.launches == []


async def test_a_lost_reply_leaves_the_intent_and_repeating_it_launches_nothing_more(bench: Bench) -> None:
    bench.cloud.broken.lose_reply("launch")
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("spot"), BOTH)
    (launch,) = bench.launches.rows.values()
    assert bench.nodes.rows == {}
    await bench.launcher.settle(launch)
    assert bench.launches.rows == {}
    assert (len(bench.nodes.rows), bench.cloud._groups["g-spot"].desired) == (1, 1)


@pytest.mark.parametrize(("store", "method"), [("nodes", "add"), ("launches", "settle")])
async def test_a_table_that_fails_after_the_call_leaves_the_intent(bench: Bench, store: str, method: str) -> None:
    getattr(bench, store).broken.fail(method)
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("spot"), BOTH)
    (launch,) = bench.launches.rows.values()
    await bench.launcher.settle(launch)
    assert (len(bench.nodes.rows), bench.launches.rows, bench.cloud._groups["g-spot"].desired) == (1, {}, 1)


async def test_a_repeated_launch_that_is_refused_is_settled(bench: Bench) -> None:
    launch = Launch("t", "m", "g-spot", "a", "spot", bench.clock.now)
    await bench.launches.intend(launch)
    bench.refuse(SPOT, NONE)
    with pytest.raises(NoCapacity):
        await bench.launcher.settle(launch)
    assert bench.launches.rows == {}


# -- adopting


async def adopt(bench: Bench, state: NodeState | None) -> Node:
    instance = Instance(NodeId("i-1"), "a", "g6.xlarge", alive=True)
    bench.cloud.add_group(replace(SPOT, desired=1, instances=(instance,)))
    if state:
        known = Node(instance.id, "m", state, "", "a", "g6.xlarge", "", 0.0, 0.0, ip="10.0.0.1")
        bench.nodes.rows[instance.id] = known
    await bench.launcher.adopt(instance, model="m", group="g-spot", market="spot")
    return bench.nodes.rows[instance.id]


async def test_an_unknown_instance_gets_a_row(bench: Bench) -> None:
    row = await adopt(bench, None)
    assert (row.state, row.group, row.lease_until) == (NodeState.PENDING, "g-spot", bench.clock.now + 300)


async def test_a_row_that_the_agent_wrote_first_is_completed(bench: Bench) -> None:
    row = await adopt(bench, NodeState.BOOTING)
    assert (row.state, row.ip, row.group, row.market) == (NodeState.BOOTING, "10.0.0.1", "g-spot", "spot")
    assert row.lease_until == bench.clock.now + 300
    assert bench.cloud.terminated == []


async def test_an_instance_that_was_believed_gone_is_terminated(bench: Bench) -> None:
    row = await adopt(bench, NodeState.TERMINATED)
    assert row.state is NodeState.TERMINATED
    assert bench.cloud.terminated == ["i-1"]
