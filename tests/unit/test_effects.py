"""What each decision does, and that it leaves nothing half done when a table or the cloud says no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from control_plane.actions import (
    Abandon,
    Action,
    Adopt,
    Bury,
    Claim,
    CountFailure,
    Done,
    Drain,
    Evict,
    Fail,
    Fulfil,
    Hold,
    Refuse,
    Release,
    Renew,
    Repeat,
    Start,
    Terminate,
)
from control_plane.bookkeeper import Bookkeeper
from control_plane.catalogue import Catalogue
from control_plane.effects import Effects, Stores
from control_plane.errors import NoCapacity, Stale, StartFailed, Unavailable
from control_plane.fleet import Fleet
from control_plane.launcher import Launcher
from control_plane.model import Model
from control_plane.nodes import Cause, Node, NodeId
from control_plane.ports import Group, Instance, Launch, Wish
from control_plane.rates import Sizes
from gpu_node.protocol import Failure, NodeState
from tests.memory import FakeClock, MemoryFence, MemoryLaunches, MemoryModels, MemoryNodes, MemoryWishes
from tests.memory_books import MemoryUsage
from tests.memory_cloud import MemoryCloud

FAILURE = Failure("broken", "It broke.", "Mend it.")
INSTANCE = Instance(NodeId("i-1"), "a", "g6.xlarge", alive=True)
GROUP = Group("g", "m", "on-demand", ("a",), max_size=4, desired=1, instances=(INSTANCE,))
READY = Node(INSTANCE.id, "m", NodeState.READY, "g", "a", "g6.xlarge", "on-demand", 100.0, 400.0, ip="10.0.0.1")
WISH = Wish("m", 1, 500.0, "ann", 90.0, version=1)
LAUNCH = Launch("t", "m", "g", "a", "on-demand", 100.0)


@dataclass
class Bench:
    """One ready node, one wish, one unsettled launch."""

    nodes: MemoryNodes = field(default_factory=MemoryNodes)
    wishes: MemoryWishes = field(default_factory=MemoryWishes)
    launches: MemoryLaunches = field(default_factory=MemoryLaunches)
    models: MemoryModels = field(default_factory=MemoryModels)
    cloud: MemoryCloud = field(default_factory=MemoryCloud)
    usage: MemoryUsage = field(default_factory=MemoryUsage)
    clock: FakeClock = field(default_factory=FakeClock)

    async def prepare(self) -> Bench:
        stores = Stores(self.nodes, self.wishes, self.launches, self.models, MemoryFence())
        self.fleet = Fleet(clock=self.clock, max_waiters=4)
        self.catalogue = Catalogue(self.models, clock=self.clock)
        books = Bookkeeper(self.usage, self.cloud, clock=self.clock, sizes=Sizes())
        launcher = Launcher(
            self.cloud, self.nodes, self.launches, books, clock=self.clock, token=lambda: "fresh", lease_s=300.0
        )
        self.told: list[Done] = []
        self.failure: Failure | None = None  # what the hub says of the model

        async def trouble(model: Model) -> Failure | None:
            return self.failure

        self.effects = Effects(
            stores,
            self.cloud,
            self.fleet,
            launcher,
            self.catalogue,
            books,
            clock=self.clock,
            told=self.told.append,
            trouble=trouble,
        )
        await self.models.seed("m", {"name": "m", "instanceTypes": ["g6.xlarge"]})
        self.catalogue.refresh(await self.models.list())
        self.cloud.add_group(GROUP)
        self.wishes.rows["m"] = WISH
        self.launches.rows["t"] = LAUNCH
        self.put(READY)
        return self

    def put(self, node: Node) -> None:
        self.nodes.rows[node.id] = node
        self.fleet.update([node])

    @property
    def row(self) -> Node:
        return self.nodes.rows[INSTANCE.id]

    async def apply(self, action: Action) -> None:
        await self.effects.apply(action, list(await self.cloud.groups()))


@pytest.fixture
async def bench() -> Bench:
    return await Bench().prepare()


# -- nodes


async def test_a_drained_node_is_out_of_rotation(bench: Bench) -> None:
    await bench.apply(Drain(READY, "idle"))
    assert (bench.row.state, bench.row.reason, bench.row.draining_since) == (
        NodeState.DRAINING,
        "idle",
        bench.clock.now,
    )
    assert bench.fleet.acquire("m") is None
    assert bench.fleet.disturbed.is_set()


async def test_a_failed_node_says_why(bench: Bench) -> None:
    await bench.apply(Fail(READY, FAILURE))
    assert (bench.row.state, bench.row.error, bench.row.reason) == (NodeState.FAILED, FAILURE, "It broke.")
    assert bench.fleet.acquire("m") is None


async def test_a_terminated_instance_is_buried_only_when_the_cloud_agrees(bench: Bench) -> None:
    draining = replace(READY, state=NodeState.DRAINING, reason="idle")
    bench.put(draining)
    await bench.apply(Terminate(draining))
    assert (bench.cloud.terminated, bench.row.state) == (["i-1"], NodeState.DRAINING)
    await bench.apply(Bury(draining))
    assert (bench.row.state, bench.row.reason) == (NodeState.TERMINATED, "idle")


async def test_a_lease_is_renewed(bench: Bench) -> None:
    await bench.apply(Renew(READY, 900.0, 250.0))
    assert (bench.row.lease_until, bench.row.last_request_at) == (900.0, 250.0)


# -- models


async def test_a_start_launches_a_node(bench: Bench) -> None:
    await bench.apply(Start("m"))
    assert [launch.token for launch in bench.cloud.launches] == ["fresh"]
    assert len(bench.nodes.rows) == 2


async def test_a_start_that_was_refused_everywhere_is_remembered_and_counts_no_failure(bench: Bench) -> None:
    await bench.models.failed("m", FAILURE, node=READY.id, at=5.0, count=1)
    bench.cloud.refusals["g", "a"] = NoCapacity("InsufficientInstanceCapacity", "none")
    await bench.apply(Start("m"))
    row = bench.models.rows["m"]
    assert row.refusal
    assert (row.refusal.code, row.refused_at) == ("no_gpu_capacity", bench.clock.now)
    assert (row.failures, row.failure, row.failed_at) == (1, FAILURE, 5.0)


async def test_a_wish_is_held_longer(bench: Bench) -> None:
    await bench.apply(Hold(replace(WISH, hold_until=900.0)))
    assert bench.wishes.rows["m"].hold_until == 900.0


async def test_a_failure_is_counted_once_however_often_it_is_applied(bench: Bench) -> None:
    for _ in range(2):
        await bench.apply(CountFailure("m", READY.id, FAILURE, 1))
    assert (bench.models.rows["m"].failures, bench.models.rows["m"].failure) == (1, FAILURE)


async def test_a_refusal_tells_everyone_and_takes_the_wish_back(bench: Bench) -> None:
    with bench.fleet.wait("m") as waiter:
        await bench.apply(Refuse("m", FAILURE, WISH))
        with pytest.raises(StartFailed, match="It broke"):
            waiter.take()
    assert bench.wishes.rows == {}
    await bench.apply(Refuse("m", FAILURE, None))


async def test_a_fulfilled_wish_goes(bench: Bench) -> None:
    await bench.apply(Fulfil(WISH))
    assert bench.wishes.rows == {}


# -- the cloud


async def test_a_repeated_launch_is_settled(bench: Bench) -> None:
    await bench.apply(Repeat(LAUNCH))
    assert [launch.token for launch in bench.cloud.launches] == ["t"]
    assert bench.launches.rows == {}


async def test_a_repeated_launch_that_is_refused_is_settled_without_a_failure(bench: Bench) -> None:
    bench.cloud.refusals["g", "a"] = NoCapacity("InsufficientInstanceCapacity", "none")
    await bench.apply(Repeat(LAUNCH))
    assert (bench.launches.rows, bench.models.rows["m"].failure) == ({}, None)


async def test_an_abandoned_launch_is_forgotten(bench: Bench) -> None:
    await bench.apply(Abandon(LAUNCH))
    assert (bench.launches.rows, bench.cloud.launches) == ({}, [])


async def test_a_stranger_is_adopted(bench: Bench) -> None:
    del bench.nodes.rows[INSTANCE.id]
    await bench.apply(Adopt(GROUP, INSTANCE))
    assert (bench.row.state, bench.row.group, bench.row.model) == (NodeState.PENDING, "g", "m")


async def test_a_node_that_is_claimed_learns_who_pays_and_its_launch_is_settled(bench: Bench) -> None:
    launch = replace(LAUNCH, cause=Cause("ann", "k1"))
    await bench.apply(Claim(launch, READY))
    assert (bench.row.state, bench.row.launched_at, bench.row.cause) == (NodeState.READY, 100.0, launch.cause)
    assert bench.row.micro_usd_per_hour > 0
    assert (bench.launches.rows, bench.cloud.launches) == ({}, [])
    assert bench.told == [Done(Claim(launch, READY), launched=READY.id)]


async def test_a_dead_instance_is_taken_out_of_its_group(bench: Bench) -> None:
    await bench.apply(Evict(INSTANCE))
    assert bench.cloud.terminated == ["i-1"]


async def test_a_held_instance_is_released(bench: Bench) -> None:
    bench.cloud.add_group(GROUP, holds=True)
    await bench.apply(Terminate(READY))
    await bench.apply(Release(GROUP, INSTANCE))
    assert (bench.cloud.terminated, bench.cloud.released) == (["i-1"], ["i-1"])


async def test_what_the_cloud_needs_time_for_begins_no_hasty_tick(bench: Bench) -> None:
    bench.fleet.disturbed.clear()
    await bench.apply(Terminate(READY))
    await bench.apply(Release(GROUP, INSTANCE))
    assert not bench.fleet.disturbed.is_set()


# -- failures

FAILING: list[
    tuple[Action, Callable[[Bench], MemoryNodes | MemoryWishes | MemoryLaunches | MemoryModels | MemoryCloud], str]
]
FAILING = [
    (Drain(READY, "idle"), lambda bench: bench.nodes, "move"),
    (Fail(READY, FAILURE), lambda bench: bench.nodes, "move"),
    (Terminate(READY), lambda bench: bench.cloud, "terminate"),
    (Bury(replace(READY, state=NodeState.DRAINING)), lambda bench: bench.nodes, "move"),
    (Renew(READY, 900.0, 0.0), lambda bench: bench.nodes, "renew"),
    (Start("m"), lambda bench: bench.launches, "intend"),
    (Start("m"), lambda bench: bench.cloud, "launch"),
    (Hold(WISH), lambda bench: bench.wishes, "ask"),
    (CountFailure("m", READY.id, FAILURE, 1), lambda bench: bench.models, "failed"),
    (Refuse("m", FAILURE, WISH), lambda bench: bench.wishes, "drop"),
    (Fulfil(WISH), lambda bench: bench.wishes, "drop"),
    (Repeat(LAUNCH), lambda bench: bench.cloud, "launch"),
    (Abandon(LAUNCH), lambda bench: bench.launches, "settle"),
    (Claim(LAUNCH, READY), lambda bench: bench.nodes, "add"),
    (Adopt(GROUP, INSTANCE), lambda bench: bench.nodes, "add"),
    (Evict(INSTANCE), lambda bench: bench.cloud, "terminate"),
    (Release(GROUP, INSTANCE), lambda bench: bench.cloud, "release"),
]


@pytest.mark.parametrize(
    ("action", "part", "method"), FAILING, ids=[f"{type(action).__name__}-{name}" for action, _, name in FAILING]
)
async def test_a_silent_aws_is_told_and_the_action_can_be_taken_again(
    bench: Bench,
    action: Action,
    part: Callable[[Bench], MemoryNodes | MemoryWishes | MemoryLaunches | MemoryModels | MemoryCloud],
    method: str,
) -> None:
    if isinstance(action, Bury):
        bench.put(action.node)
    nodes, wishes, models = dict(bench.nodes.rows), dict(bench.wishes.rows), dict(bench.models.rows)
    part(bench).broken.fail(method)
    with pytest.raises(Unavailable):
        await bench.apply(action)
    assert (bench.nodes.rows, bench.wishes.rows, bench.models.rows) == (nodes, wishes, models)
    assert (bench.cloud.terminated, bench.launches.rows["t"]) == ([], LAUNCH)
    bench.launches.rows.pop("fresh", None)
    await bench.apply(action)


@pytest.mark.parametrize(
    "action",
    [
        Drain(replace(READY, state=NodeState.BOOTING), "cancelled"),
        Fail(replace(READY, state=NodeState.BOOTING), FAILURE),
        Bury(replace(READY, state=NodeState.DRAINING)),
        Renew(replace(READY, id=NodeId("i-9")), 900.0, 0.0),
        CountFailure("m", READY.id, FAILURE, 5),
        CountFailure("unknown", READY.id, FAILURE, 1),
        Refuse("m", FAILURE, replace(WISH, version=0)),
        Fulfil(replace(WISH, version=0)),
    ],
    ids=lambda action: type(action).__name__,
)
async def test_a_lost_race_changes_nothing(bench: Bench, action: Action) -> None:
    with pytest.raises(Stale):
        await bench.apply(action)
    assert (bench.row, bench.wishes.rows["m"], bench.models.rows["m"].failures) == (READY, WISH, 0)


async def test_an_adoption_that_came_too_late_claims_the_row_that_is_there(bench: Bench) -> None:
    await bench.apply(Adopt(GROUP, INSTANCE))
    assert (bench.row.state, bench.cloud.terminated) == (NodeState.READY, [])


async def test_a_drain_that_lost_its_race_gets_the_node_back_into_rotation(bench: Bench) -> None:
    bench.nodes.broken.fail("move", Stale("i-1"))
    with pytest.raises(Stale):
        await bench.apply(Drain(READY, "idle"))
    bench.fleet.update([bench.row])
    assert bench.fleet.acquire("m") is not None


async def test_those_who_wait_hear_of_a_failure_though_the_wish_could_not_be_dropped(bench: Bench) -> None:
    bench.wishes.broken.fail("drop")
    with bench.fleet.wait("m") as waiter:
        with pytest.raises(Unavailable):
            await bench.apply(Refuse("m", FAILURE, WISH))
        assert waiter.granted.done()


# -- what is told


@pytest.mark.parametrize(
    "action",
    [Drain(READY, "idle"), Fail(READY, FAILURE), Terminate(READY), Abandon(LAUNCH), Evict(INSTANCE), Fulfil(WISH)],
    ids=lambda action: type(action).__name__,
)
async def test_an_action_that_took_effect_is_told(bench: Bench, action: Action) -> None:
    await bench.apply(action)
    assert bench.told == [Done(action)]


@pytest.mark.parametrize("action", [Start("m"), Repeat(LAUNCH)], ids=lambda action: type(action).__name__)
async def test_a_launch_is_told_with_its_node_or_with_why_it_was_refused(bench: Bench, action: Action) -> None:
    bench.cloud.refusals["g", "a"] = NoCapacity("InsufficientInstanceCapacity", "none")
    await bench.apply(action)
    (refused,) = bench.told
    assert refused.refusal is not None
    assert refused == Done(action, refusal=refused.refusal)
    bench.told.clear()
    bench.cloud.refusals.clear()
    await bench.apply(action)
    (node,) = bench.nodes.rows.keys() - {INSTANCE.id}
    assert bench.told == [Done(action, launched=node)]


async def test_an_instance_that_was_believed_gone_is_told_as_taken_out(bench: Bench) -> None:
    bench.put(replace(READY, state=NodeState.TERMINATED))
    await bench.apply(Adopt(GROUP, INSTANCE))
    assert bench.told == [Done(Evict(INSTANCE))]


@pytest.mark.parametrize("error", [Stale("raced"), Unavailable("throttled")], ids=lambda error: type(error).__name__)
async def test_what_did_not_take_effect_is_not_told(bench: Bench, error: Stale | Unavailable) -> None:
    bench.nodes.broken.fail("move", error)
    with pytest.raises(type(error)):
        await bench.apply(Drain(READY, "idle"))
    assert bench.told == []


async def test_a_model_whose_weights_cannot_be_had_is_not_launched(bench: Bench) -> None:
    bench.failure = FAILURE
    before = len(bench.cloud.launches)
    await bench.apply(Start("m"))
    assert len(bench.cloud.launches) == before
    assert set(bench.launches.rows) == {"t"}  # no intent either
    (row,) = [row for row in await bench.models.list() if row.name == "m"]
    assert (row.refusal, row.failure, row.failures) == (FAILURE, None, 0)
    assert bench.told == [Done(Start("m"), refusal=FAILURE)]
