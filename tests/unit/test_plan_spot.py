"""The decisions of ``plan`` about nodes that AWS wants back, and about more than one node of a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.actions import Drain, Fulfil, HandOver, Hold, Release, Start, Terminate
from control_plane.failures import REPLACED, TAKEN_BACK
from control_plane.model import Model
from control_plane.nodes import UNASKED, Cause, Node, NodeId
from control_plane.plan import HAND_OVER_S, LATE_S, plan
from control_plane.ports import ModelRow, Wish
from control_plane.world import World
from gpu_node.protocol import NodeState
from tests.unit.planning import (
    CONFIG,
    CRASH,
    MODEL,
    NAME,
    NOW,
    POLICY,
    actions,
    group,
    held,
    instance,
    kinds,
    node,
    wish,
)

SOON = NOW + 100
BUSY = {NodeId("i-1"): 1}
WANTED_TWO = Model.parse({**CONFIG, "maxInstances": 2})


def spot(state: NodeState = NodeState.READY, name: str = "i-1", **changes: object) -> Node:
    return node(state, name, market="spot", **changes)


# -- an interruption


@pytest.mark.parametrize("state", [NodeState.PENDING, NodeState.BOOTING, NodeState.READY])
def test_a_node_that_aws_takes_back_drains_whatever_it_does(state: NodeState) -> None:
    gone = spot(state, interruption_at=SOON)
    assert Drain(gone, TAKEN_BACK) in actions(gone, in_flight=BUSY, waiters={NAME: 1}, wishes={NAME: wish()})


def test_it_is_replaced_at_once_while_it_works_for_somebody() -> None:
    gone = spot(interruption_at=SOON)
    assert Start(NAME) in actions(gone, in_flight=BUSY)
    assert Start(NAME) in actions(replace(gone, running=1))  # another task's
    draining = replace(gone, state=NodeState.DRAINING, draining_since=NOW)
    assert Start(NAME) in actions(draining, in_flight=BUSY)


def test_who_paid_for_it_pays_for_what_takes_its_place_unless_somebody_wishes_for_it() -> None:
    gone = spot(interruption_at=SOON, cause=Cause("ann@example.com", "key-1"))
    assert Start(NAME, gone.cause) in actions(gone, in_flight=BUSY)
    nobodys = wish(by="")  # as it is written for who is at work there, without a wish of theirs
    assert Start(NAME, gone.cause) in actions(gone, in_flight=BUSY, wishes={NAME: nobodys})
    bens = wish(by="ben@example.com")
    assert Start(NAME, Cause("ben@example.com")) in actions(gone, in_flight=BUSY, wishes={NAME: bens})


def test_what_is_written_for_who_is_at_work_there_is_on_that_account_too() -> None:
    for cause in (Cause("ann@example.com", "key-1", speculative=True), UNASKED):
        gone = spot(interruption_at=SOON, cause=cause)
        world = World({NAME: MODEL}, {NAME: ModelRow(NAME, CONFIG)}, nodes=[gone], in_flight=BUSY)
        (hold,) = [action for action in plan(world, NOW, POLICY) if isinstance(action, Hold)]
        assert hold.wish.cause == cause


def test_it_is_not_replaced_when_it_does_nothing() -> None:
    assert kinds(spot(interruption_at=SOON)) == [Drain]


def test_it_is_not_replaced_twice() -> None:
    gone = spot(NodeState.DRAINING, interruption_at=SOON)
    for other in (node(NodeState.PENDING, "i-2"), node(NodeState.BOOTING, "i-2"), node(NodeState.READY, "i-2")):
        assert Start not in kinds(gone, other, in_flight=BUSY)
    assert Start not in kinds(gone, in_flight=BUSY, launching=frozenset({NAME}))


def test_nor_when_it_was_put_to_sleep_or_a_failure_stands() -> None:
    gone = spot(NodeState.DRAINING, interruption_at=SOON)
    assert Start not in kinds(gone, in_flight=BUSY, wishes={NAME: wish(desired=0)})
    history = {NAME: ModelRow(NAME, CONFIG, failures=2, failure=CRASH, failed_at=NOW - 5)}
    assert Start not in kinds(gone, in_flight=BUSY, history=history)


def test_the_start_goes_on_for_a_while_after_the_last_of_its_work() -> None:
    gone = spot(NodeState.DRAINING, interruption_at=SOON)
    world = World({NAME: MODEL}, {NAME: ModelRow(NAME, CONFIG)}, nodes=[gone], in_flight=BUSY)
    (hold,) = [action for action in plan(world, NOW, POLICY) if isinstance(action, Hold)]
    assert hold.wish.hold_until == NOW + POLICY.cancel_grace_s


def test_it_leaves_its_group_at_once_and_goes_on_serving() -> None:
    """A group that still counts it would buy another when AWS ends it."""
    gone = spot(NodeState.DRAINING, interruption_at=SOON)
    assert Terminate(gone) in actions(gone, in_flight=BUSY, groups=[group(instance())])
    assert kinds(gone, in_flight=BUSY, groups=[group(held())]) == [Start]  # held by the hook until its work is done


def test_what_it_cannot_finish_is_handed_over_shortly_before() -> None:
    for left_s, handed in ((HAND_OVER_S + 1, False), (HAND_OVER_S - 1, True), (-5.0, True)):
        gone = spot(NodeState.DRAINING, interruption_at=NOW + left_s)
        assert (HandOver in kinds(gone, in_flight=BUSY, groups=[group(held())])) is handed


def test_it_is_let_go_when_its_last_request_ended_or_aws_is_late() -> None:
    gone = spot(NodeState.DRAINING, interruption_at=SOON)
    there = group(held())
    assert Release(there, held()) in actions(gone, groups=[there])
    late = replace(gone, interruption_at=NOW - LATE_S - 1, draining_since=NOW - 600)
    assert Release(there, held()) in actions(late, in_flight=BUSY, groups=[there])


# -- a rebalance recommendation


def test_what_replaces_it_does_not_idle_out_while_it_works() -> None:
    gone = spot(NodeState.DRAINING, interruption_at=SOON)
    idle = node(name="i-2", ready_at=NOW - 5000, launched_at=NOW - 6000)
    assert Drain not in kinds(gone, idle, in_flight=BUSY)
    assert Drain in kinds(gone, idle)


def test_what_its_agent_last_said_of_its_work_holds_no_longer_than_the_machine() -> None:
    ended = spot(NodeState.DRAINING, interruption_at=NOW - 16, heartbeat_at=NOW - 20, running=1)
    assert Start not in kinds(ended)
    assert kinds(ended, groups=[group(held())], since=NOW - 1) == [Release]
    alive = replace(ended, heartbeat_at=NOW - 5)  # AWS is late
    assert Start in kinds(alive)
    assert Release not in kinds(alive, groups=[group(held())], since=NOW - 1)


def test_a_node_that_aws_may_take_back_is_replaced_first_and_drains_then() -> None:
    there = spot(rebalance_at=NOW - 1)
    assert kinds(there, in_flight=BUSY) == [Start]
    assert kinds(there, node(NodeState.BOOTING, "i-2"), in_flight=BUSY) == []
    other = node(NodeState.READY, "i-2")
    assert Drain(there, REPLACED) in actions(there, other, in_flight=BUSY, models={NAME: WANTED_TWO})


def test_an_idle_one_is_left_alone() -> None:
    assert kinds(spot(rebalance_at=NOW - 1)) == []


def test_a_wish_is_not_fulfilled_by_a_node_that_aws_wants_back() -> None:
    there = spot(rebalance_at=NOW - 1)
    assert Fulfil not in kinds(there, in_flight=BUSY, wishes={NAME: wish()})
    assert Fulfil in kinds(there, node(NodeState.READY, "i-2"), wishes={NAME: wish()})


# -- several nodes


def test_load_that_asks_for_another_gets_it() -> None:
    anns = node(cause=Cause("ann@example.com"))
    assert actions(anns, models={NAME: WANTED_TWO}, load={NAME: 2}) == [Start(NAME, anns.cause)]
    assert kinds(node(), node(NodeState.BOOTING, "i-2"), models={NAME: WANTED_TWO}, load={NAME: 2}) == []


def test_but_never_more_than_the_model_may_have() -> None:
    assert kinds(node(), load={NAME: 2}) == []  # maxInstances is 1
    two = (node(), node(NodeState.READY, "i-2"))
    assert Start not in kinds(*two, models={NAME: WANTED_TWO}, load={NAME: 3})


def test_load_wakes_no_model_that_sleeps() -> None:
    assert kinds(models={NAME: WANTED_TWO}, load={NAME: 2}) == []
    asleep = {NAME: wish(desired=0)}
    assert Start not in kinds(node(), models={NAME: WANTED_TWO}, load={NAME: 2}, wishes=asleep)


def test_a_start_for_load_is_cancelled_when_the_load_is_gone() -> None:
    coming = node(NodeState.BOOTING, "i-2")
    (action,) = actions(node(), coming, models={NAME: WANTED_TWO}, load={NAME: 1})
    assert isinstance(action, Drain)
    assert action.node is coming


def test_when_load_falls_the_youngest_drains() -> None:
    old, young = node(ready_at=NOW - 90), node(NodeState.READY, "i-2", ready_at=NOW - 10)
    both = {"models": {NAME: WANTED_TWO}, "in_flight": {old.id: 1, young.id: 1}}
    assert actions(young, old, load={NAME: 1}, **both) == [Drain(young, "more nodes than wanted")]
    assert actions(young, old, load={NAME: 2}, **both) == []


def test_what_somebody_asked_for_by_hand_is_not_taken_away_by_load() -> None:
    old, young = node(ready_at=NOW - 90), node(NodeState.READY, "i-2", ready_at=NOW - 10)
    awake = {NAME: wish(desired=2, keep_awake_until=NOW + 900)}
    assert kinds(young, old, models={NAME: WANTED_TWO}, load={NAME: 1}, wishes=awake) == []


WARM = Model.parse({**CONFIG, "maxInstances": 2, "warmHours": [{"cron": "0 0 * * *", "minutes": 1440}]})


@pytest.mark.parametrize(
    ("model", "wishes"),
    [
        (WANTED_TWO, {NAME: wish(hold_until=0.0, keep_awake_until=NOW + 900)}),
        (WARM, {NAME: wish(hold_until=0.0)}),
        (WARM, {}),
    ],
    ids=["kept awake", "warm hours", "warm hours, nobody asked"],
)
def test_what_load_brought_up_is_not_drained_for_a_lesser_wish(model: Model, wishes: dict[str, Wish]) -> None:
    old, young = node(ready_at=NOW - 90), node(NodeState.READY, "i-2", ready_at=NOW - 10)
    asked: dict[str, object] = {"models": {NAME: model}, "wishes": wishes}
    assert Start in kinds(old, load={NAME: 2}, **asked)
    assert Drain not in kinds(old, young, load={NAME: 2}, **asked)
    assert Start not in kinds(old, young, load={NAME: 2}, **asked)
    assert Drain(young, "more nodes than wanted") in actions(old, young, load={NAME: 1}, **asked)
    assert Drain not in kinds(old, young, **asked)  # nothing is known of the load yet


def test_a_wish_by_hand_for_fewer_than_the_load_needs_is_fulfilled_and_takes_none_away() -> None:
    old, young = node(ready_at=NOW - 90), node(NodeState.READY, "i-2", ready_at=NOW - 10)
    asked = wish(desired=1)
    both: dict[str, object] = {"models": {NAME: WANTED_TWO}, "wishes": {NAME: asked}}
    assert actions(old, young, load={NAME: 2}, **both) == [Fulfil(asked)]
    assert actions(old, young, load={NAME: 1}, **both) == [Drain(young, "more nodes than wanted"), Fulfil(asked)]
