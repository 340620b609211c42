"""What the simulation found, each as the smallest trace that showed it, and as the decision that was wrong."""

from __future__ import annotations

import pytest

from control_plane.actions import Abandon, Refuse, Release, Repeat, Terminate
from control_plane.errors import Unavailable
from control_plane.failures import asleep_failure
from control_plane.plan import ASK_S
from control_plane.ports import Launch
from gpu_node.protocol import NodeState
from tests.night.test_night import MODEL, asleep
from tests.simulation.hunt import outcome
from tests.simulation.schedule import Ask, Event, On, Outage, Retire, Schedule, Trouble
from tests.unit.planning import NAME, NOW, actions, group, instance, kinds, node, wish

SMALL, LARGE = "org/small", "org/large"


def ask(at: float, model: str = SMALL, *, seconds: float = 5.0, stream: bool = True, manner: str = "curl") -> Ask:
    return Ask(at, model, seconds, stream, manner)


TRACES: dict[str, tuple[Event, ...]] = {
    "a cloud that was not seen yet is no cloud without groups": (Outage(10.0, 60.0, "cloud"), ask(12.0)),
    "a task that is stopped while idle leaves somebody in front": (
        ask(10.0, seconds=1.0),
        Retire(130.0, rolling=False),
        *(ask(150.0 + 2 * n, seconds=1.0) for n in range(10)),
    ),
    "a stream that the older of two tasks began is not cut by the newer": (
        ask(14.0, seconds=20.0),
        Retire(130.0, rolling=True),
        *(ask(135.0 + 2 * n, seconds=40.0) for n in range(8)),
    ),
    "an intent that shows late is no second need": (
        Trouble("task", "launches.intend", 1, "late"),
        ask(308.0, LARGE, seconds=40.0),
        ask(406.0, seconds=20.0),
    ),
    "who wakes a task that was just told to end is not sent there": (
        ask(10.0),
        On("front.move", 4, 0.2, ask(0.0)),
        On("front.move", 4, 1.7, ask(0.0, LARGE, seconds=20.0)),
    ),
    "the fall waits for the listener's turn, not for the order to turn": (
        Trouble("task", "stage.face", 1, "refused"),
        Trouble("task", "stage.face", 2, "refused"),
        ask(10.0),
        *(On("front.move", 3, 5.0 + 5 * n, ask(0.0, seconds=20.0)) for n in range(6)),
    ),
}


@pytest.mark.parametrize("title", TRACES)
def test_what_was_found_holds(title: str) -> None:
    """On several clocks and latencies: the race is in a different place on each."""
    for seed in range(12):
        schedule = Schedule(seed, TRACES[title], propagation_s=2.0 * seed, task_start_s=12.0 + 2 * seed)
        assert outcome(schedule) is None, schedule


# -- the decisions


def test_who_waits_although_a_sleep_overwrote_their_wish_is_told_so() -> None:
    """The sleep's time was read before they came, or by another clock: the wish that they wrote is gone."""
    asleep_since = wish(desired=0, hold_until=0.0, asked_at=NOW - 60)
    (refusal,) = actions(wishes={NAME: asleep_since}, waiters={NAME: 1})
    assert refusal == Refuse(NAME, asleep_failure(NAME), None, before=NOW - ASK_S)


def test_an_intent_whose_place_was_taken_meanwhile_is_abandoned() -> None:
    late = Launch("late", NAME, "group", "a", "on-demand", at=NOW - 20)
    assert actions(node(NodeState.BOOTING), launches=[late], wishes={NAME: wish()}) == [Abandon(late)]


def test_of_two_intents_for_one_need_the_older_is_repeated() -> None:
    older, newer = (Launch(f"t{at}", NAME, "group", "a", "on-demand", at=NOW - at) for at in (30, 20))
    assert actions(launches=[newer, older], wishes={NAME: wish()}) == [Abandon(newer), Repeat(older)]


def test_a_drain_begun_by_a_new_reconciler_waits_for_a_report_from_after_it() -> None:
    """The task before it may have sent the node a request that no report told of yet."""
    takeover = {"since": NOW - 20, "groups": [group(instance())]}
    untold = node(NodeState.DRAINING, draining_since=NOW - 8, heartbeat_at=NOW - 1)
    assert Terminate not in kinds(untold, **takeover)
    told = node(NodeState.DRAINING, draining_since=NOW - 15, heartbeat_at=NOW - 1)
    assert Terminate in kinds(told, **takeover)


def test_nothing_waits_for_the_report_of_a_node_that_fell_silent_or_that_nobody_else_knew() -> None:
    takeover = {"since": NOW - 20, "groups": [group(instance())]}
    silent = node(NodeState.DRAINING, draining_since=NOW - 8, heartbeat_at=NOW - 120)
    assert Terminate in kinds(silent, **takeover)
    own = node(NodeState.DRAINING, draining_since=NOW - 8, heartbeat_at=NOW - 1, ready_at=NOW - 10)
    assert Terminate in kinds(own, **takeover)
    assert Release not in kinds(own, **takeover)


async def test_a_cloud_that_does_not_answer_is_no_reason_to_refuse_a_model() -> None:
    async with asleep() as (world, key):
        from tests.night.test_night import ASK, call

        world.cloud.broken.fail("groups", Unavailable("throttled"), times=100)
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert answer.status == 307
        assert world.models.rows[MODEL].failure is None
