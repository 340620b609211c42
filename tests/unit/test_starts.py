"""What counts as a failed start: also an engine that dies as soon as it got ready, again and again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.actions import Bury, CountFailure, Fail, Forgive, NoteStart
from control_plane.failures import CRASH_LOOP, crash_loop
from control_plane.nodes import Node, NodeId
from control_plane.policy import FAILURES_IN_A_ROW, MISHAPS_IN_A_ROW, standing_failure, stands_until
from control_plane.ports import ModelRow
from control_plane.starts import SOON_S, count, note, outlasts, uncounted
from gpu_node.crash import _EXPLANATIONS
from gpu_node.protocol import Failure, NodeState
from tests.unit.planning import BROKEN, CONFIG, CRASH, MODEL, NAME, NOW, POLICY, actions, group, node, wish

HUNG = Failure("engine_hung", "It hung.", cause="the line before")
CLEAN = ModelRow(NAME, CONFIG)


def died(after_s: float, error: Failure = BROKEN) -> Node:
    return node(NodeState.FAILED, error=error, ready_at=NOW - 60, heartbeat_at=NOW - 60 + after_s)


@pytest.mark.parametrize(
    "error", [BROKEN, HUNG, Failure("engine_lost", "It is lost."), *(failure for failure, _ in _EXPLANATIONS)]
)
def test_an_engine_that_dies_soon_after_it_got_ready_counts(error: Failure) -> None:
    dead = node(NodeState.FAILED, error=error, ready_at=NOW - 60, heartbeat_at=NOW - 30)
    counted = count(dead, CLEAN, NOW)
    assert counted == CountFailure(NAME, dead.id, crash_loop(error, 1), 1)
    assert counted is not None
    assert (counted.failure.code, counted.failure.permanent) == (CRASH_LOOP, False)


def test_an_engine_that_served_for_a_while_does_not() -> None:
    dead = node(NodeState.FAILED, error=BROKEN, ready_at=NOW - 2 * SOON_S, heartbeat_at=NOW, launched_at=NOW - 900)
    assert count(dead, CLEAN, NOW) is None


def test_a_node_that_went_away_does_not() -> None:
    lost = Failure("node_lost", "It went away.")
    assert not uncounted(node(NodeState.FAILED, error=lost, ready_at=NOW - 60, heartbeat_at=NOW - 30), CLEAN)


def test_it_counts_once() -> None:
    dead = node(NodeState.FAILED, error=BROKEN, ready_at=NOW - 60, heartbeat_at=NOW - 30)
    assert count(dead, replace(CLEAN, failures=1, failed_at=NOW - 999, counted=(dead.id,)), NOW) is None


def test_a_start_that_only_got_ready_does_not_take_it_back() -> None:
    looping = replace(CLEAN, failures=1, failure=crash_loop(BROKEN, 1), failed_at=NOW - 200)
    ready = node(launched_at=NOW - 100, ready_at=NOW - 40)
    assert note(ready, MODEL, looping).forgives is False
    assert note(ready, MODEL, replace(looping, failure=BROKEN)).forgives is True
    assert note(ready, MODEL, CLEAN).forgives is True


def test_a_loop_ends_after_a_few_gpus() -> None:
    history, launches = CLEAN, 0
    for round_ in range(10):
        now = NOW + round_ * 3000.0
        if standing_failure(history, now, POLICY):
            break
        launches += 1
        dead = node(
            NodeState.FAILED, f"i-{round_}", error=BROKEN, launched_at=now, ready_at=now + 100, heartbeat_at=now + 110
        )
        noted = note(dead, MODEL, history)
        history = replace(history, failures=0, failure=None) if noted.forgives else history
        counted = count(dead, history, now + 111)
        assert counted is not None
        history = replace(history, failures=counted.count, failure=counted.failure, failed_at=now + 111)
    assert launches == FAILURES_IN_A_ROW
    standing = standing_failure(history, NOW + 99_999, POLICY)
    assert standing is not None
    assert (standing.code, standing.permanent) == (CRASH_LOOP, True)
    assert "2 times in a row" in standing.message


def test_whoever_waits_is_told_of_the_loop_and_nothing_is_started() -> None:
    history = replace(CLEAN, failures=2, failure=crash_loop(BROKEN, 2), failed_at=NOW - 99_999)
    (refused,) = actions(wishes={NAME: wish()}, waiters={NAME: 1}, history={NAME: history})
    assert "POST /api/cluster/scale" in refused.failure.fix  # type: ignore[union-attr]


def test_a_note_is_part_of_the_plan() -> None:
    ready = node(launched_at=NOW - 100, ready_at=NOW - 40)
    looping = replace(CLEAN, failures=1, failure=crash_loop(BROKEN, 1), failed_at=NOW - 200)
    (noted,) = actions(ready, was_starting=frozenset({ready.id}), history={NAME: looping})
    assert isinstance(noted, NoteStart)
    assert not noted.forgives


LOOPING = replace(CLEAN, failures=1, failure=crash_loop(BROKEN, 1), failed_at=NOW - 1000)


def served(seconds: float) -> Node:
    return node(launched_at=NOW - 990, ready_at=NOW - seconds - 1, heartbeat_at=NOW - 1, last_request_at=NOW - 1)


def test_an_engine_that_serves_ends_the_loop() -> None:
    assert actions(served(SOON_S), history={NAME: LOOPING}) == [Forgive(NAME, LOOPING.failed_at)]
    assert actions(served(SOON_S - 1), history={NAME: LOOPING}) == []
    assert actions(served(SOON_S), history={NAME: CLEAN}) == []


def test_one_that_was_ready_before_the_failure_says_nothing_of_it() -> None:
    assert not outlasts(served(SOON_S + 700), LOOPING)
    assert outlasts(served(SOON_S + 600), LOOPING)


def test_an_engine_that_does_not_answer_forgives_nothing() -> None:
    lost = served(SOON_S)
    assert [type(action) for action in actions(lost, history={NAME: LOOPING}, lost=frozenset({lost.id}))] == [Fail]


def test_what_its_agent_has_not_told_of_is_not_served() -> None:
    assert not outlasts(node(ready_at=NOW - 400, heartbeat_at=NOW - 200), LOOPING)


def test_another_nodes_failure_since_its_launch_does_not_hide_its_own() -> None:
    dead = node(NodeState.FAILED, error=BROKEN, launched_at=NOW - 100)
    other = replace(CLEAN, failures=1, failure=BROKEN, failed_at=NOW - 10, counted=(NodeId("i-2"),))
    assert count(dead, other, NOW) == CountFailure(NAME, dead.id, BROKEN, 2)


def test_a_refused_launch_since_its_launch_does_not_either() -> None:
    dead = node(NodeState.FAILED, error=BROKEN, launched_at=NOW - 100)
    refused = replace(CLEAN, failures=1, failure=BROKEN, failed_at=NOW - 200, refusal=HUNG, refused_at=NOW - 10)
    assert count(dead, refused, NOW) == CountFailure(NAME, dead.id, BROKEN, 2)


def test_a_refused_launch_does_not_make_a_loop_forgiven() -> None:
    looping = replace(CLEAN, failures=1, failure=crash_loop(BROKEN, 1), failed_at=NOW - 200)
    refused = replace(looping, refusal=BROKEN, refused_at=NOW - 150)
    assert note(node(launched_at=NOW - 100, ready_at=NOW - 40), MODEL, refused).forgives is False


def test_two_that_fail_at_once_are_counted_one_after_the_other() -> None:
    """And neither's row goes before: it is the only record."""
    one, two = (node(NodeState.FAILED, name, error=BROKEN) for name in ("i-1", "i-2"))
    world: dict[str, object] = {"groups": [group()], "waiters": {NAME: 1}, "wishes": {NAME: wish()}}
    assert actions(one, two, **world) == [CountFailure(NAME, one.id, BROKEN, 1)]
    first = replace(CLEAN, failures=1, failure=BROKEN, failed_at=NOW, counted=(one.id,))
    assert actions(one, two, history={NAME: first}, **world) == [Bury(one), CountFailure(NAME, two.id, BROKEN, 2)]


def test_the_readme_says_how_often_what_is_tried() -> None:
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    mishaps = [replace(CLEAN, failures=times, failure=CRASH, failed_at=NOW) for times in range(1, MISHAPS_IN_A_ROW + 1)]
    until = [stands_until(history, NOW + 1, POLICY)[1] for history in mishaps]
    assert [end and end - NOW for end in until] == [1, 90, 6 * 60, 24 * 60, None]
    assert readme.count("after 90 s, 6 and 24 min; the fifth is the last one") == 2
    assert "It failed 5 times in a row" in readme
    assert FAILURES_IN_A_ROW == 2
    assert "two such deaths in a row stop it" in readme
    assert "two engines in a row died within five minutes of getting ready" in readme
