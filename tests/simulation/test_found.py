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
from tests.simulation.failed import FAILED
from tests.simulation.hunt import outcome
from tests.simulation.schedule import Schedule
from tests.simulation.traces import CLOCKS, TRACES, varied
from tests.unit.planning import NAME, NOW, actions, group, instance, kinds, node, wish


@pytest.mark.parametrize("number", range(CLOCKS * len(TRACES)))
def test_what_was_found_holds(number: int) -> None:
    title, schedule = varied(number)
    assert outcome(schedule) is None, (title, schedule)


@pytest.mark.parametrize("schedule", FAILED, ids=lambda schedule: str(schedule.seed))
def test_a_seed_that_failed_holds(schedule: Schedule) -> None:
    assert outcome(schedule) is None


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


def test_a_task_that_never_let_go_may_know_a_node_that_came_after_it() -> None:
    takeover = {"since": NOW - 20, "ousted_at": NOW - 20, "groups": [group(instance())]}
    shared = node(NodeState.DRAINING, draining_since=NOW - 8, heartbeat_at=NOW - 1, ready_at=NOW - 10)
    assert Terminate not in kinds(shared, **takeover)
    assert Terminate in kinds(shared, **takeover | {"ousted_at": NOW - 400})
    unready = node(NodeState.DRAINING, draining_since=NOW - 8, heartbeat_at=NOW - 1, ready_at=0.0)
    assert Terminate in kinds(unready, **takeover)


async def test_a_cloud_that_does_not_answer_is_no_reason_to_refuse_a_model() -> None:
    async with asleep() as (world, key):
        from tests.night.test_night import ASK, call

        world.cloud.broken.fail("groups", Unavailable("throttled"), times=100)
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert answer.status == 307
        assert world.models.rows[MODEL].failure is None
