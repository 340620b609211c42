"""Who gets an engine, who waits, and that no lease or waiter is ever lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from control_plane.errors import EngineLost, QueueFull, RequestError, StartFailed
from control_plane.fleet import Fleet, Lease, Waiter
from control_plane.nodes import Node, NodeId
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord
from tests.memory import FakeClock

FAILURE = Failure("no_gpu_capacity", "None to give.", "Try again.")


def node(number: int = 1, *, model: str = "m", state: NodeState = NodeState.READY) -> Node:
    return Node(NodeId(f"i-{number}"), model, state, "g", "a", "g6.xlarge", "spot", 100.0, 400.0, ip=f"10.0.0.{number}")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock=clock, max_waiters=3)


def leased(fleet: Fleet) -> Lease:
    lease = fleet.acquire("m")
    assert lease
    return lease


# -- leases


async def test_only_a_ready_node_of_the_model_is_leased(fleet: Fleet) -> None:
    others = [node(number, state=state) for number, state in enumerate(NodeState) if state is not NodeState.READY]
    fleet.update([*others, node(20, model="other")])
    assert fleet.acquire("m") is None
    fleet.update([node(21)])
    assert leased(fleet).node.id == "i-21"


async def test_the_engine_with_the_least_to_do_is_next(fleet: Fleet) -> None:
    fleet.update([node(1), node(2)])
    first, second = leased(fleet), leased(fleet)
    assert {first.node.id, second.node.id} == {"i-1", "i-2"}
    second.release()
    assert leased(fleet).node.id == second.node.id
    assert fleet.in_flight == {"i-1": 1, "i-2": 1}


async def test_releasing_twice_is_releasing_once(fleet: Fleet, clock: FakeClock) -> None:
    fleet.update([node()])
    keep, lease = leased(fleet), leased(fleet)
    clock.step(5)
    with lease:
        lease.release()
    lease.release()
    assert fleet.in_flight == {"i-1": 1}
    assert fleet.last_request == {"m": clock.now}
    keep.release()
    assert fleet.in_flight == {}


async def test_a_lease_outlives_its_nodes_routing_and_its_end_is_noticed(fleet: Fleet) -> None:
    fleet.update([node()])
    lease = leased(fleet)
    fleet.withdraw(lease.node.id)
    fleet.update([node(state=NodeState.DRAINING)])
    assert (fleet.acquire("m"), fleet.in_flight) == (None, {"i-1": 1})
    fleet.disturbed.clear()
    lease.release()
    assert (fleet.disturbed.is_set(), fleet.in_flight) == (True, {})


async def test_a_new_address_of_a_node_holds_for_the_next_lease(fleet: Fleet) -> None:
    fleet.update([node()])
    fleet.update([replace(node(), ip="10.9.9.9")])
    assert leased(fleet).node.endpoint[0] == "10.9.9.9"


# -- suspects


async def test_a_suspect_gets_nothing_until_it_is_cleared(fleet: Fleet) -> None:
    fleet.update([node()])
    fleet.disturbed.clear()
    fleet.suspect(NodeId("i-1"))
    assert fleet.suspects.keys() == {"i-1"}
    assert fleet.disturbed.is_set()
    fleet.update([node()])
    assert fleet.acquire("m") is None
    fleet.cleared(NodeId("i-1"))
    fleet.update([node()])
    assert leased(fleet).node.id == "i-1"


async def test_whoever_lost_an_answer_learns_what_became_of_the_engine(fleet: Fleet) -> None:
    fleet.update([node(1)])
    lease = leased(fleet)
    fleet.suspect(NodeId("i-1"))
    asking = asyncio.create_task(lease.fate(60))
    await asyncio.sleep(0)
    assert not asking.done()
    why = Failure("cuda_error", "It failed.")
    fleet.update([replace(node(1, state=NodeState.FAILED), error=why)])
    assert await asking == why


async def test_of_an_engine_that_nobody_judges_nothing_is_waited_for(fleet: Fleet) -> None:
    fleet.update([node(1)])
    lease = leased(fleet)
    fleet.update([node(1, state=NodeState.DRAINING)])
    fleet.suspect(NodeId("i-1"))  # its stream was cut at the deadline
    asking = asyncio.create_task(lease.fate(60))
    await asyncio.sleep(0)
    assert asking.done()
    assert asking.result() is None


@pytest.mark.parametrize("judged", ["well", "gone", "not at all"])
async def test_of_an_engine_that_did_not_fail_there_is_nothing_to_tell(fleet: Fleet, judged: str) -> None:
    fleet.update([node(1)])
    lease = leased(fleet)
    fleet.suspect(NodeId("i-1"))
    asking = asyncio.create_task(lease.fate(0.0 if judged == "not at all" else 60.0))
    await asyncio.sleep(0)
    if judged == "well":
        fleet.cleared(NodeId("i-1"))
    elif judged == "gone":
        fleet.update([])
    assert await asking is None
    lease.release()
    assert await lease.fate(60) is None


async def test_suspicions_about_nodes_that_are_gone_are_dropped(fleet: Fleet) -> None:
    fleet.update([node(1), node(2)])
    fleet.suspect(NodeId("i-1"))
    fleet.suspect(NodeId("i-2"))
    fleet.suspect(NodeId("i-3"))  # never heard of
    fleet.forget([NodeId("i-2")])
    assert fleet.suspects.keys() == {"i-2"}


# -- waiters


async def test_waiters_are_served_in_the_order_in_which_they_came(fleet: Fleet) -> None:
    order = []

    async def wait(name: str) -> None:
        with fleet.wait("m") as waiter:
            await waiter.granted
            order.append(name)
            waiter.take().release()

    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert fleet.waiters == {"m": 3}
    fleet.update([node()])
    await asyncio.gather(*waiting)
    assert (order, fleet.waiters, fleet.in_flight) == (["a", "b", "c"], {}, {})


async def test_the_queue_has_a_bound_for_each_model(fleet: Fleet) -> None:
    with fleet.wait("m"), fleet.wait("m"), fleet.wait("m"), fleet.wait("other"):
        with pytest.raises(QueueFull) as full:
            fleet.wait("m")
        assert full.value.retry_after_s
    fleet.wait("m")


async def test_who_leaves_with_a_grant_gives_it_back(fleet: Fleet) -> None:
    with fleet.wait("m") as waiter:
        fleet.update([node()])
        assert waiter.granted.done()
        assert fleet.in_flight == {"i-1": 1}
    assert fleet.in_flight == {}


async def test_who_took_the_grant_keeps_it(fleet: Fleet) -> None:
    with fleet.wait("m") as waiter:
        fleet.update([node()])
        lease = waiter.take()
    assert fleet.in_flight == {"i-1": 1}
    lease.release()


async def test_who_left_is_granted_nothing(fleet: Fleet) -> None:
    with fleet.wait("m") as gone, fleet.wait("m") as stays:
        gone.granted.cancel()
        fleet.update([node()])
        assert stays.take().node.id == "i-1"
        assert fleet.in_flight == {"i-1": 1}


async def test_a_refusal_reaches_everyone_who_waits_for_that_model(fleet: Fleet) -> None:
    with fleet.wait("m") as one, fleet.wait("m") as two, fleet.wait("other") as other:
        fleet.refuse("m", FAILURE)
        for waiter in (one, two):
            with pytest.raises(StartFailed, match="None to give") as refused:
                waiter.take()
            assert refused.value.code == "no_gpu_capacity"
        assert not other.granted.done()
        assert fleet.waiters == {"other": 1}


async def test_a_failure_that_stands_is_told_without_waiting(fleet: Fleet) -> None:
    fleet.learn(failures={"m": FAILURE}, usual_s={})
    with pytest.raises(StartFailed):
        fleet.wait("m")
    fleet.learn(failures={}, usual_s={})
    fleet.wait("m")


async def test_after_closing_nobody_new_waits_but_who_cannot_come_back(fleet: Fleet) -> None:
    fleet.update([node()])
    lease = leased(fleet)
    with fleet.wait("other") as waiter:
        fleet.close(EngineLost("closing"))
        with pytest.raises(EngineLost, match="closing"):
            fleet.wait("other")
        with fleet.wait("other", begun=True) as begun:
            fleet.update([lease.node, node(2, model="other")])
            assert [one.take().node.id for one in (waiter, begun)] == ["i-2", "i-2"]
    assert fleet.in_flight == {lease.node.id: 1, "i-2": 2}


async def test_who_is_sent_away_hears_why_and_a_lease_that_was_granted_stays(fleet: Fleet) -> None:
    with fleet.wait("m") as first, fleet.wait("other") as second:
        fleet.update([node()])
        for waiter in (first, second):
            waiter.send_away(EngineLost("closing"))
        assert first.take().node.id == "i-1"
        with pytest.raises(EngineLost, match="closing"):
            second.take()
    assert fleet.waiters == {}


async def test_progress_tells_the_phase_and_the_usual_time(fleet: Fleet) -> None:
    assert not fleet.progress("m").launched
    fleet.learn(failures={}, usual_s={"m": 70.0})
    assert fleet.progress("m").usual_s == 70.0
    record = PhaseRecord(Phase.LOAD, 110.0)
    fleet.update([replace(node(state=NodeState.BOOTING), phases=(record,))])
    progress = fleet.progress("m")
    assert (progress.launched, progress.phase, progress.started_at, progress.usual_s) == (True, record, 100.0, 70.0)
    fleet.update([node()])
    assert not fleet.progress("m").launched


class FleetMachine(RuleBasedStateMachine):
    """Requests and reconciler in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.fleet: Fleet = self.loop.run_until_complete(self._new())
        self.ready: set[int] = set()  # what requests are routed to
        self.suspected: set[int] = set()
        self.leases: list[Lease] = []
        self.queue: list[Waiter] = []  # in the order in which they came

    async def _new(self) -> Fleet:
        return Fleet(clock=FakeClock(), max_waiters=3)

    async def _enter(self) -> Waiter | None:
        try:
            return self.fleet.wait("m").__enter__()
        except RequestError:
            return None

    @rule(numbers=st.sets(st.integers(1, 3)))
    def reconcile(self, numbers: set[int]) -> None:
        self.ready = numbers - self.suspected
        self.fleet.update([node(number) for number in sorted(numbers)])
        assert not self.ready or all(waiter.granted.done() for waiter in self.queue)

    @rule()
    def acquire(self) -> None:
        lease = self.fleet.acquire("m")
        assert (lease is None) == (not self.ready)
        if lease:
            assert int(lease.node.id[2:]) in self.ready
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        lease.release()
        lease.release()

    @rule()
    def wait(self) -> None:
        waiting = sum(not waiter.granted.done() for waiter in self.queue)
        waiter = self.loop.run_until_complete(self._enter())
        assert (waiter is None) == (waiting >= 3)
        if waiter:
            self.queue.append(waiter)

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), take=st.booleans())
    def leave(self, data: st.DataObject, take: bool) -> None:
        waiter = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        if take and waiter.granted.done():
            self.leases.append(waiter.take())
        waiter.__exit__(None, None, None)

    @rule(number=st.integers(1, 3))
    def suspect(self, number: int) -> None:
        self.fleet.suspect(NodeId(f"i-{number}"))
        if number in self.ready:
            self.suspected.add(number)
            self.ready.remove(number)

    @rule(number=st.integers(1, 3))
    def clear(self, number: int) -> None:
        self.fleet.cleared(NodeId(f"i-{number}"))
        self.suspected.discard(number)

    @rule(number=st.integers(1, 3))
    def withdraw(self, number: int) -> None:
        self.fleet.withdraw(NodeId(f"i-{number}"))
        self.ready.discard(number)

    @invariant()
    def every_lease_is_held_by_somebody(self) -> None:
        granted = sum(waiter.granted.done() for waiter in self.queue)
        assert sum(self.fleet.in_flight.values()) == len(self.leases) + granted
        assert all(count > 0 for count in self.fleet.in_flight.values())

    @invariant()
    def every_waiter_is_granted_in_order_or_still_queued(self) -> None:
        done = [waiter.granted.done() for waiter in self.queue]
        assert done == sorted(done, reverse=True)
        assert self.fleet.waiters.get("m", 0) == done.count(False)

    def teardown(self) -> None:
        self.loop.close()


FleetMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestFleetMachine = FleetMachine.TestCase
