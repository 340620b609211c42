"""The decisions of ``plan``, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.actions import (
    Abandon,
    Adopt,
    Bury,
    Claim,
    CountFailure,
    Drain,
    Evict,
    Fail,
    Fulfil,
    Hold,
    NoteStart,
    Refuse,
    Renew,
    Repeat,
    Start,
    Terminate,
)
from control_plane.boots import Boot
from control_plane.model import Model
from control_plane.nodes import Cause, Node, NodeId
from control_plane.plan import LAUNCH_VISIBLE_S, plan
from control_plane.policy import standing_failure
from control_plane.ports import Launch, ModelRow
from control_plane.world import World
from gpu_node.protocol import NodeState
from tests.unit.planning import (
    BROKEN,
    CONFIG,
    CRASH,
    GATED,
    MODEL,
    NAME,
    NOW,
    POLICY,
    actions,
    group,
    instance,
    kinds,
    node,
    wish,
)

# -- 1: what the cloud no longer has


@pytest.mark.parametrize("state", [NodeState.DRAINING, NodeState.FAILED])
def test_a_leaving_node_is_buried_when_the_cloud_no_longer_has_it(state: NodeState) -> None:
    assert kinds(node(state), groups=[group()]) == [Bury]


@pytest.mark.parametrize("state", [NodeState.PENDING, NodeState.BOOTING, NodeState.READY])
def test_a_node_that_vanished_is_lost(state: NodeState) -> None:
    (action,) = actions(node(state), groups=[group()], waiters={NAME: 1}, wishes={NAME: wish(desired=0)})[:1]
    assert isinstance(action, Fail)
    assert action.failure.code == "node_lost"


def test_a_node_just_launched_may_be_missing_from_the_clouds_answer() -> None:
    just = node(NodeState.PENDING, launched_at=NOW - 5)
    assert kinds(just, groups=[group()], waiters={NAME: 1}, wishes={NAME: wish()}) == []


def test_nothing_is_believed_lost_when_the_cloud_was_not_looked_at() -> None:
    assert kinds(node(), groups=None) == []


def test_an_instance_that_died_in_its_group_is_lost_and_then_taken_out() -> None:
    dead = group(instance(alive=False))
    assert kinds(node(), groups=[dead]) == [Fail]
    assert kinds(node(NodeState.FAILED, error=CRASH, ready_at=1.0), groups=[dead]) == [Terminate]


# -- 2: FAILED


def test_a_failed_start_is_counted_once_and_its_instance_taken_down() -> None:
    failed = node(NodeState.FAILED, error=CRASH)
    counted = CountFailure(NAME, NodeId("i-1"), CRASH, 1)
    assert actions(failed, groups=[group(instance())]) == [counted, Terminate(failed)]
    history = {NAME: ModelRow(NAME, CONFIG, failures=1, failure=CRASH, failed_at=NOW - 2, counted=(failed.id,))}
    assert actions(failed, groups=[group(instance())], history=history) == [Terminate(failed)]


def test_a_failed_start_whose_agent_took_the_instance_down_itself_is_counted_too() -> None:
    failed = node(NodeState.FAILED, error=CRASH)
    assert kinds(failed, groups=[group()]) == [CountFailure]  # its row is the only record: buried once that is written
    counted = {NAME: ModelRow(NAME, CONFIG, failures=1, failure=CRASH, failed_at=NOW - 1, counted=(failed.id,))}
    assert kinds(failed, groups=[group()], history=counted) == [Bury]


def test_failures_long_apart_are_not_in_a_row() -> None:
    history = {NAME: ModelRow(NAME, CONFIG, failures=1, failure=CRASH, failed_at=-NOW)}
    assert CountFailure(NAME, NodeId("i-1"), CRASH, 1) in actions(node(NodeState.FAILED, error=CRASH), history=history)


def test_a_node_that_was_ready_once_is_no_failed_start() -> None:
    assert kinds(node(NodeState.FAILED, error=CRASH, ready_at=NOW - 50)) == [Terminate]


def test_an_instance_that_is_on_its_way_out_is_not_terminated_again() -> None:
    assert kinds(node(NodeState.DRAINING), groups=[group(instance(alive=False, leaving=True))]) == []


# -- 3: DRAINING


def test_a_draining_node_stays_until_its_last_request_ended() -> None:
    draining = node(NodeState.DRAINING)
    assert kinds(draining, in_flight={draining.id: 1}) == []
    assert kinds(draining) == [Terminate]


def test_a_draining_node_goes_at_its_deadline_whatever_runs_on_it() -> None:
    late = node(NodeState.DRAINING, draining_since=NOW - 301)
    assert kinds(late, in_flight={late.id: 1}) == [Terminate]


def test_streams_from_before_a_takeover_keep_a_draining_node() -> None:
    busy = node(NodeState.DRAINING, running=1)
    assert kinds(busy, since=NOW - 10) == []
    assert kinds(busy, since=NOW - 301) == []  # the task before us may serve on for as long, and its engine knows
    assert kinds(node(NodeState.DRAINING, running=1, draining_since=NOW - 301), since=NOW - 301) == [Terminate]
    off = [group(instance(alive=False))]
    assert kinds(busy, since=NOW - 10, groups=off) == [Terminate]  # its last report tells of nothing that still goes on


# -- 4: starting


@pytest.mark.parametrize("state", [NodeState.PENDING, NodeState.BOOTING])
def test_a_start_nobody_wants_any_more_is_cancelled(state: NodeState) -> None:
    assert kinds(node(state)) == [Drain]
    assert kinds(node(state), wishes={NAME: wish(hold_until=NOW - 1)}) == [Drain]
    assert kinds(node(state), wishes={NAME: wish(hold_until=NOW + 1)}) == []
    assert kinds(node(state), waiters={NAME: 1}) == []


@pytest.mark.parametrize(
    ("starting", "code"),
    [
        (node(NodeState.PENDING, launched_at=NOW - 301), "node_never_spoke"),
        (node(NodeState.BOOTING, launched_at=NOW - 1201), "boot_too_slow"),
        (node(NodeState.BOOTING, heartbeat_at=NOW - 91), "node_silent"),
    ],
)
def test_a_start_that_goes_nowhere_fails_with_its_reason(starting: Node, code: str) -> None:
    (action,) = actions(starting, wishes={NAME: wish()}, waiters={NAME: 1})
    assert isinstance(action, Fail)
    assert action.failure.code == code


# -- 5: READY


def test_an_idle_node_drains_after_the_idle_timeout_and_not_before() -> None:
    assert kinds(node(ready_at=NOW - 301, launched_at=NOW - 400)) == [Drain]
    assert kinds(node(ready_at=NOW - 299, launched_at=NOW - 400)) == []


def test_idle_time_counts_from_the_end_of_the_last_request() -> None:
    old = node(ready_at=NOW - 5000, launched_at=NOW - 6000)
    assert kinds(old, last_request={NAME: NOW - 299}) == []
    assert kinds(replace(old, last_request_at=NOW - 299)) == []
    assert kinds(old, last_request={NAME: NOW - 301}) == [Drain]


def test_a_node_in_use_is_never_idle() -> None:
    old = node(ready_at=NOW - 5000, launched_at=NOW - 6000)
    assert kinds(old, in_flight={old.id: 1}) == []
    assert kinds(old, waiters={NAME: 1}) == []


def test_keep_awake_keeps_what_runs_and_starts_nothing() -> None:
    kept = {NAME: wish(hold_until=0.0, keep_awake_until=NOW + 1)}
    assert kinds(node(ready_at=NOW - 5000, launched_at=NOW - 6000), wishes=kept) == []
    assert kinds(wishes=kept) == []


def test_a_node_put_to_sleep_by_hand_drains_though_it_is_in_use() -> None:
    used = node()
    assert kinds(used, in_flight={used.id: 2}, wishes={NAME: wish(desired=0, hold_until=0.0)}) == [Drain]


def test_a_node_whose_engine_does_not_answer_fails() -> None:
    (action,) = actions(node(), lost=frozenset({NodeId("i-1")}))
    assert isinstance(action, Fail)
    assert action.failure.code == "engine_lost"


def test_a_node_whose_agent_fell_silent_drains_and_is_replaced_on_demand() -> None:
    silent = node(heartbeat_at=NOW - 91)
    assert kinds(silent) == [Drain]
    draining = node(NodeState.DRAINING, heartbeat_at=NOW - 91)
    assert Start in kinds(draining, in_flight={draining.id: 1}, waiters={NAME: 1})


def test_the_youngest_of_too_many_nodes_goes_first() -> None:
    old, young = node(name="i-1", ready_at=NOW - 60), node(name="i-2", ready_at=NOW - 20)
    assert actions(young, old) == [Drain(young, "more nodes than wanted")]


def test_nodes_of_a_model_that_is_no_longer_configured_drain() -> None:
    used = node()
    assert actions(used, models={}, in_flight={used.id: 1}) == [Drain(used, "its model is no longer configured")]
    assert kinds(node(NodeState.BOOTING), models={}, waiters={NAME: 1}) == [Drain, Refuse]


# -- 6: leases


def test_a_lease_is_renewed_in_its_second_half_and_only_for_what_stays() -> None:
    def renewals(*nodes: Node, **world: object) -> list[Renew]:
        full = World(models={NAME: MODEL}, nodes=nodes, **world)  # type: ignore[arg-type]
        return [action for action in plan(full, NOW, POLICY) if isinstance(action, Renew)]

    short = node(lease_until=NOW + 100)
    assert renewals(short, last_request={NAME: NOW - 9}) == [Renew(short, NOW + 300, NOW - 9)]
    assert renewals(node(lease_until=NOW + 200)) == []
    assert renewals(node(NodeState.DRAINING, lease_until=NOW)) == []
    assert renewals(node(NodeState.FAILED, lease_until=NOW)) == []
    used = node(last_request_at=NOW - 40)
    assert renewals(used, last_request={NAME: NOW - 20}) == [Renew(used, NOW + 300, NOW - 20)]  # for after a restart
    assert renewals(used, last_request={NAME: NOW - 30}) == []
    assert renewals(used, in_flight={used.id: 1}) == [Renew(used, NOW + 300, NOW)]
    busy = node(NodeState.DRAINING, lease_until=NOW)
    assert len(renewals(busy, in_flight={busy.id: 1})) == 1


# -- 7: failures that stand

ONCE = ModelRow(NAME, CONFIG, failures=1, failure=CRASH, failed_at=NOW - 1)


@pytest.mark.parametrize(
    ("history", "stands"),
    [
        (ModelRow(NAME, CONFIG), False),
        (ModelRow(NAME, CONFIG, refusal=CRASH, refused_at=NOW - 89), True),
        (ModelRow(NAME, CONFIG, refusal=CRASH, refused_at=NOW - 91), False),
        (replace(ONCE, refusal=BROKEN, refused_at=NOW - 1), True),  # a refusal between two starts
        (replace(ONCE, refusal=BROKEN, refused_at=NOW - 91), False),
        (replace(ONCE, failures=2, refusal=GATED, refused_at=NOW - 1), True),
        (ModelRow(NAME, CONFIG, failures=1, failure=CRASH, failed_at=NOW - 1), False),  # tried again at once
        (ModelRow(NAME, CONFIG, failures=1, failure=GATED, failed_at=NOW - 89), True),
        (ModelRow(NAME, CONFIG, failures=1, failure=GATED, failed_at=NOW - 91), False),
        (ModelRow(NAME, CONFIG, failures=2, failure=CRASH, failed_at=NOW - 89), True),
        (ModelRow(NAME, CONFIG, failures=2, failure=CRASH, failed_at=NOW - 91), False),
        (ModelRow(NAME, CONFIG, failures=3, failure=CRASH, failed_at=NOW - 359), True),  # longer every time
        (ModelRow(NAME, CONFIG, failures=3, failure=CRASH, failed_at=NOW - 361), False),
        (ModelRow(NAME, CONFIG, failures=4, failure=CRASH, failed_at=NOW - 1441), False),
        (ModelRow(NAME, CONFIG, failures=5, failure=CRASH, failed_at=NOW - 9999), True),  # and that is the last time
        (ModelRow(NAME, CONFIG, failures=1, failure=BROKEN, failed_at=NOW - 1), False),
        (ModelRow(NAME, CONFIG, failures=2, failure=BROKEN, failed_at=NOW - 9999), True),  # until somebody asks by hand
        (ModelRow(NAME, CONFIG, failures=2, failure=GATED, failed_at=NOW - 9999), True),
    ],
)
def test_a_failure_that_stands_refuses_instead_of_starting(history: ModelRow, stands: bool) -> None:
    wanted = wish()
    (action,) = actions(wishes={NAME: wanted}, waiters={NAME: 1}, history={NAME: history})
    assert isinstance(action, Refuse if stands else Start)
    if isinstance(action, Refuse):
        failure = history.refusal if history.refusal and history.failures < 2 else history.failure
        assert failure is not None
        assert (action.failure.code, action.failure.message) == (failure.code, failure.message)
        assert action.wish == wanted


def test_a_failure_that_stands_says_when_or_how_it_is_tried_again() -> None:
    crashed = ModelRow(NAME, CONFIG, failures=2, failure=CRASH, failed_at=NOW - 30)
    assert "2 times in a row: the next try is possible in 60 s" in _fix(crashed)
    assert "POST /api/cluster/scale" in _fix(replace(crashed, failure=GATED))
    assert "POST /api/cluster/scale" in _fix(replace(crashed, failure=BROKEN))


def test_what_only_a_person_can_end_is_no_reason_to_ask_again() -> None:
    """Whoever reads `permanent` stops asking: clients get a 403."""
    stopped = standing_failure(ModelRow(NAME, CONFIG, failures=2, failure=BROKEN, failed_at=NOW), NOW, POLICY)
    assert stopped is not None
    assert stopped.permanent


def test_a_failure_that_stands_starts_nothing_though_another_node_serves() -> None:
    two = Model.parse({**CONFIG, "maxInstances": 2})
    asked = wish(desired=2)
    refused = {NAME: ModelRow(NAME, CONFIG, refusal=CRASH, refused_at=NOW - 1)}
    assert actions(node(), models={NAME: two}, wishes={NAME: asked}, history=refused) == [Fulfil(asked)]


def _fix(history: ModelRow) -> str:
    failure = standing_failure(history, NOW, POLICY)
    assert failure is not None
    return failure.fix


def test_a_start_that_came_to_its_good_end_is_noted_once() -> None:
    ready = node(launched_at=NOW - 100, ready_at=NOW - 40)
    boot = Boot(60.0, "g5.xlarge", "org/model@main", first=True, phases={"instance": 60.0})
    assert actions(ready, was_starting=frozenset({ready.id})) == [NoteStart(NAME, boot)]
    assert actions(ready) == []


def test_a_model_whose_launch_goes_on_is_left_alone() -> None:
    launch = Launch("t", NAME, "group", "a", "on-demand", NOW - 1)
    assert actions(launches=[launch], wishes={NAME: wish()}, launching=frozenset({NAME})) == []
    assert actions(wishes={NAME: wish()}, launching=frozenset({NAME})) == []


def test_no_second_start_begins_in_the_tick_that_counts_the_first_ones_failure() -> None:
    failed = node(NodeState.FAILED, error=GATED)
    assert kinds(failed, wishes={NAME: wish()}, waiters={NAME: 1}) == [CountFailure, Terminate]


# -- 8, 9, 10: wishes


def test_who_waits_for_a_model_put_to_sleep_is_told_so() -> None:
    (action,) = actions(wishes={NAME: wish(desired=0, hold_until=0.0)}, waiters={NAME: 1})
    assert isinstance(action, Refuse)
    assert action.failure.code == "start_cancelled"
    assert action.before == NOW - 1  # whoever asked after that means it


def test_a_wish_that_has_its_nodes_is_fulfilled() -> None:
    asked = wish()
    assert actions(node(), wishes={NAME: asked}) == [Fulfil(asked)]


def test_a_wish_starts_as_many_nodes_as_it_asks_for_within_the_models_bound() -> None:
    two = Model.parse({**CONFIG, "maxInstances": 2})
    asked = {NAME: wish(desired=5)}
    assert kinds(node(NodeState.BOOTING), models={NAME: two}, wishes=asked) == [Start]
    booting = [node(NodeState.BOOTING, f"i-{number}") for number in range(2)]
    assert kinds(*booting, models={NAME: two}, wishes=asked) == []


def test_a_launch_whose_outcome_is_unknown_counts_as_a_node_on_its_way() -> None:
    launch = Launch("t", NAME, "group", "a", "on-demand", NOW - 1)
    assert actions(launches=[launch], wishes={NAME: wish()}) == [Repeat(launch)]


def test_who_waits_for_a_model_that_is_no_longer_configured_is_told_so() -> None:
    asked = wish()
    for wishes, waiters in (({NAME: asked}, {}), ({NAME: asked}, {NAME: 1}), ({}, {NAME: 1})):
        (action,) = actions(models={}, wishes=wishes, waiters=waiters)
        assert isinstance(action, Refuse)
        assert (action.failure.code, action.wish) == ("model_removed", wishes.get(NAME))


def test_people_who_wait_keep_their_wish_alive() -> None:
    world = World(
        models={NAME: MODEL}, waiters={NAME: 1}, nodes=[node(NodeState.BOOTING)], wishes={NAME: wish(hold_until=NOW)}
    )
    (held,) = [action for action in plan(world, NOW, POLICY) if isinstance(action, Hold)]
    assert held.wish.hold_until == NOW + 120


# -- 11, 12: the cloud


def test_an_old_or_unwanted_launch_is_abandoned() -> None:
    launch = Launch("t", NAME, "group", "a", "on-demand", NOW - LAUNCH_VISIBLE_S)
    assert actions(launches=[launch]) == [Abandon(launch)]
    old = replace(launch, at=NOW - 601)
    assert Abandon(old) in actions(launches=[old], wishes={NAME: wish()})


def test_a_launch_that_was_cancelled_a_moment_ago_stays_to_say_whose_its_instance_is() -> None:
    """Its call may be on the way: the instance that comes of it would be on nobody's account else."""
    launch = Launch("t", NAME, "group", "a", "on-demand", NOW - 5, Cause("ann@example.com", "k1"))
    for nobody in ({}, {NAME: wish(desired=0, hold_until=0.0)}):
        assert actions(launches=[launch], wishes=nobody) == []
        here = group(instance())
        assert actions(groups=[here], launches=[launch], wishes=nobody) == [Adopt(here, instance(), launch.cause)]


def test_a_node_that_told_of_itself_before_its_launch_was_heard_of_is_claimed_for_it() -> None:
    """No node is lacking then: the launch is not repeated, and says who pays."""
    launch = Launch("t", NAME, "group", "a", "on-demand", NOW - 160, Cause("ann@example.com", "k1"))
    own = node(NodeState.BOOTING)
    wishes = {NAME: wish()}
    assert actions(own, launches=[launch], wishes=wishes) == [Claim(launch, own)]
    assert actions(replace(own, micro_usd_per_hour=5), launches=[launch], wishes=wishes) == [Abandon(launch)]
    for other in (replace(launch, zone="b"), replace(launch, group="spot"), replace(launch, at=NOW)):
        assert actions(own, launches=[other], wishes=wishes) == [Abandon(other)]


def test_a_living_instance_without_a_row_is_adopted_and_a_dead_one_taken_out() -> None:
    living, dead, leaving = instance(), instance("i-2", alive=False), instance("i-3", alive=False, leaving=True)
    here = group(living, dead, leaving)
    assert actions(groups=[here]) == [Adopt(here, living), Evict(dead)]
