"""Down the ladder of markets and zones, and what is remembered on the way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from control_plane.bookkeeper import Bookkeeper
from control_plane.errors import LaunchMisconfigured, LaunchRefused, NoCapacity, QuotaExceeded, Stale, Unavailable
from control_plane.launcher import CannotLaunch, Launcher
from control_plane.model import Model
from control_plane.nodes import Cause, Node, NodeId
from control_plane.ports import Group, Instance, Launch
from control_plane.prices import prices
from control_plane.rates import Sizes, node_rate
from gpu_node.protocol import Failure, NodeState
from tests.memory import FakeClock, MemoryLaunches, MemoryNodes
from tests.memory_books import MemoryUsage
from tests.memory_cloud import MemoryCloud

SPOT = Group("g-spot", "m", "spot", ("a", "b"), max_size=4, desired=0)
ON_DEMAND = Group("g-od", "m", "on-demand", ("a", "b"), max_size=4, desired=0)
OTHER = Group("g-x", "x", "on-demand", ("a",), max_size=4, desired=0)
BOTH = (ON_DEMAND, OTHER, SPOT)
ANN = Cause("ann@example.com", "k1")
NONE = NoCapacity("InsufficientInstanceCapacity", "none left")
QUOTA = QuotaExceeded("VcpuLimitExceeded", "limit of 0")
WRONG = LaunchMisconfigured("UnauthorizedOperation", "not allowed")


def model(market: str) -> Model:
    return Model.parse({"name": "m", "instanceTypes": ["g6.xlarge", "g5.xlarge"], "market": market})


class Bench:
    """A launcher over a cloud whose refusals a test writes down."""

    def __init__(self, *, hands_on: bool = False) -> None:
        self.cloud, self.nodes, self.launches, self.clock = MemoryCloud(), MemoryNodes(), MemoryLaunches(), FakeClock()
        for group in BOTH:
            self.cloud.add_group(group)
        tokens = (f"t{number}" for number in itertools.count(1))
        books = Bookkeeper(MemoryUsage(), self.cloud, clock=self.clock, sizes=Sizes())
        self.launcher = Launcher(
            self.cloud,
            self.nodes,
            self.launches,
            books,
            clock=self.clock,
            token=lambda: next(tokens),
            lease_s=300.0,
            hands_on=hands_on,
        )

    def refuse(self, group: Group, error: LaunchRefused, zones: str = "ab") -> None:
        for zone in zones:
            self.cloud.refusals[group.name, zone] = error

    @property
    def tried(self) -> list[tuple[str, str]]:
        return [(launch.group, launch.zone) for launch in self.cloud.launches]

    async def failure(self, market: str = "spot-then-on-demand") -> Failure:
        with pytest.raises(CannotLaunch) as refused:
            await self.launcher.start(model(market), BOTH, ANN)
        assert self.launches.rows == {}
        assert self.nodes.rows == {}
        return refused.value.failure

    async def failure_of_next(self) -> Failure:
        """Of one more, beside a node that runs."""
        with pytest.raises(CannotLaunch) as refused:
            await self.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
        return refused.value.failure


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_first_rung_that_has_one_is_taken(bench: Bench) -> None:
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.tried == [("g-spot", "a")]
    (row,) = bench.nodes.rows.values()
    assert (row.state, row.group, row.market, row.zone) == (NodeState.PENDING, "g-spot", "spot", "a")
    assert (row.launched_at, row.lease_until) == (bench.clock.now, bench.clock.now + 300)
    assert bench.launches.rows == {}


async def test_markets_and_then_zones_are_tried_in_order(bench: Bench) -> None:
    bench.refuse(SPOT, NONE)
    bench.refuse(ON_DEMAND, NONE, "a")
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
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
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
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
        await bench.launcher.start(model("spot"), [OTHER], ANN)
    assert (refused.value.failure.code, refused.value.failure.permanent) == ("no_group", True)


# -- intents


async def test_the_intent_stands_before_the_call(bench: Bench) -> None:
    bench.launches.broken.fail("intend")
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("spot"), BOTH, ANN)
    assert bench.cloud.launches == []


async def test_a_lost_reply_leaves_the_intent_and_repeating_it_launches_nothing_more(bench: Bench) -> None:
    bench.cloud.broken.lose_reply("launch")
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("spot"), BOTH, ANN)
    (launch,) = bench.launches.rows.values()
    assert bench.nodes.rows == {}
    await bench.launcher.settle(launch)
    assert bench.launches.rows == {}
    assert (len(bench.nodes.rows), bench.cloud._groups["g-spot"].desired) == (1, 1)


@pytest.mark.parametrize(("store", "method"), [("nodes", "add"), ("launches", "settle")])
async def test_a_table_that_fails_after_the_call_leaves_the_intent(bench: Bench, store: str, method: str) -> None:
    getattr(bench, store).broken.fail(method)
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("spot"), BOTH, ANN)
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


# -- what refused lately


async def test_a_rung_that_refused_lately_is_passed_over_while_another_is_left(bench: Bench) -> None:
    bench.refuse(SPOT, NONE)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.tried == [("g-spot", "a"), ("g-spot", "b"), ("g-od", "a"), ("g-od", "a")]


async def test_what_was_passed_over_is_told_as_such(bench: Bench) -> None:
    bench.refuse(SPOT, NONE)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    bench.refuse(ON_DEMAND, NONE)
    failure = await bench.failure_of_next()
    assert "spot in a: InsufficientInstanceCapacity, a while ago" in failure.message
    assert "on-demand in b: InsufficientInstanceCapacity)" in failure.message


async def test_when_all_refused_lately_all_are_asked_again(bench: Bench) -> None:
    bench.refuse(ON_DEMAND, NONE)
    await bench.failure("on-demand")
    bench.cloud.refusals.clear()
    await bench.launcher.start(model("on-demand"), BOTH, ANN)
    assert bench.tried == [("g-od", "a"), ("g-od", "b"), ("g-od", "a")]


async def test_a_refusal_is_forgotten_after_a_while(bench: Bench) -> None:
    bench.refuse(SPOT, NONE)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    bench.cloud.refusals.clear()
    bench.clock.step(91)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.tried[-1] == ("g-spot", "a")


async def test_a_quota_is_remembered_for_every_zone_of_its_group(bench: Bench) -> None:
    bench.refuse(SPOT, QUOTA, "a")
    for _ in range(2):
        await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.tried == [("g-spot", "a"), ("g-od", "a"), ("g-od", "a")]


async def test_where_aws_takes_a_node_back_it_is_not_asked_for_another(bench: Bench) -> None:
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    (node,) = bench.nodes.rows.values()
    bench.launcher.shun(node)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.tried == [("g-spot", "a"), ("g-spot", "b")]


# -- the deadline


async def test_a_ladder_ends_at_its_deadline_with_everything_that_it_tried(bench: Bench) -> None:
    bench.refuse(SPOT, NONE)
    bench.refuse(ON_DEMAND, NONE)
    bench.cloud.clock, bench.cloud.launch_s = bench.clock, 25.0
    failure = await bench.failure()
    assert bench.tried == [("g-spot", "a"), ("g-spot", "b"), ("g-od", "a")]
    assert failure.code == "no_gpu_capacity"
    assert "on-demand in a: InsufficientInstanceCapacity; on-demand in b: not asked in time)" in failure.message


@pytest.mark.parametrize("method", ["intend", "settle"])
async def test_a_ladder_does_not_end_since_its_table_is_slow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    bench.refuse(SPOT, NONE)
    done = getattr(bench.launches, method)

    async def slow(told: object) -> None:
        bench.clock.step(40.0)  # two of them are more than AWS has for its answers
        await done(told)

    monkeypatch.setattr(bench.launches, method, slow)
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.tried == [("g-spot", "a"), ("g-spot", "b"), ("g-od", "a")]
    assert bench.launches.rows == {}


async def test_aws_that_stays_silent_ends_the_repeats_with_a_reason(bench: Bench) -> None:
    bench.cloud.broken.fail("launch", times=9)
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("on-demand"), BOTH, ANN)
    (launch,) = bench.launches.rows.values()
    bench.clock.step(59)
    with pytest.raises(Unavailable):
        await bench.launcher.repeat(model("on-demand"), launch)
    bench.clock.step(1)
    with pytest.raises(CannotLaunch) as given_up:
        await bench.launcher.repeat(model("on-demand"), launch)
    failure = given_up.value.failure
    assert (failure.code, failure.permanent) == ("launch_unanswered", False)
    assert "on-demand in a: no answer" in failure.message
    assert list(bench.launches.rows) == [launch.token]  # what becomes of it is not known: it stands until it is


async def test_who_hands_on_tells_nobody_of_a_ladder_that_was_not_walked_to_its_end() -> None:
    bench = Bench(hands_on=True)
    bench.refuse(SPOT, NONE)
    bench.refuse(ON_DEMAND, NONE, "a")
    bench.cloud.clock, bench.cloud.launch_s = bench.clock, 25.0
    with pytest.raises(Unavailable, match="on-demand in b: not asked in time"):
        await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)
    assert bench.launches.rows == {}
    await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN)  # goes on where it ended
    assert bench.tried == [("g-spot", "a"), ("g-spot", "b"), ("g-od", "a"), ("g-od", "b")]


async def test_who_hands_on_tells_at_once_of_a_ladder_that_refused_to_its_end() -> None:
    bench = Bench(hands_on=True)
    bench.refuse(SPOT, NONE)
    bench.refuse(ON_DEMAND, NONE)
    assert (await bench.failure()).code == "no_gpu_capacity"


async def test_who_hands_on_repeats_a_silent_launch_for_as_long_as_it_is_wanted() -> None:
    bench = Bench(hands_on=True)
    bench.cloud.broken.fail("launch", times=2)
    with pytest.raises(Unavailable):
        await bench.launcher.start(model("on-demand"), BOTH, ANN)
    (launch,) = bench.launches.rows.values()
    bench.clock.step(100)
    with pytest.raises(Unavailable):
        await bench.launcher.repeat(model("on-demand"), launch)
    assert list(bench.launches.rows) == [launch.token]


async def test_the_row_says_on_whose_account_and_at_what_price(bench: Bench) -> None:
    bench.cloud.spot_usd["g6.xlarge", "a"] = 0.3012
    await bench.launcher.start(model("spot"), BOTH, ANN)
    (row,) = bench.nodes.rows.values()
    assert row.cause == ANN
    assert row.micro_usd_per_hour == node_rate("g6.xlarge", Sizes(), spot_usd_per_hour=0.3012).per_hour
    assert row.micro_usd_per_hour == 301_200 + 10_959 + 5_000
    assert row.launch_micro_usd == 360_000


async def test_without_a_spot_price_the_list_price_is_taken(bench: Bench) -> None:
    bench.cloud.broken.fail("spot_usd_per_hour")
    await bench.launcher.start(model("spot"), BOTH, ANN)
    (row,) = bench.nodes.rows.values()
    assert row.micro_usd_per_hour == node_rate("g6.xlarge", Sizes()).per_hour


def test_a_type_that_nobody_knows_counts_as_the_dearest() -> None:
    dearest = max(kind.usd_per_hour for kind in prices().instance_types.values())
    assert node_rate("x9.huge", Sizes()).per_hour >= dearest * 1_000_000


async def test_a_ladder_ends_where_another_has_taken_over(bench: Bench) -> None:
    held = list[int]()

    async def hold() -> None:
        held.append(len(bench.cloud.launches))
        if bench.cloud.launches:
            raise Stale("another acts")

    bench.refuse(SPOT, NONE)
    with pytest.raises(Stale):
        await bench.launcher.start(model("spot-then-on-demand"), BOTH, ANN, hold=hold)
    assert bench.tried == [("g-spot", "a")]
    assert (held, bench.launches.rows, bench.nodes.rows) == ([0, 1], {}, {})
