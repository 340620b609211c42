"""No node lives for ever: one that is used is replaced before its lifetime ends, and nothing it serves is cut."""

from __future__ import annotations

from dataclasses import replace

from control_plane.actions import Drain, Hold, Renew, Start
from control_plane.failures import OUTLIVED
from control_plane.nodes import NodeId
from control_plane.plan import plan
from control_plane.policy import LAST_DRAIN_S, replaced_from
from control_plane.ports import ModelRow
from control_plane.world import World
from gpu_node.lease import LeasePolicy
from gpu_node.protocol import NodeState
from tests.unit.planning import CONFIG, MODEL, NAME, NOW, POLICY, actions, node, wish

LIFETIME_S = MODEL.max_lifetime_s
BORN = NOW - LIFETIME_S + POLICY.boot_limit_s + POLICY.drain_timeout_s + LAST_DRAIN_S  # just old enough
OLD = node(name="i-old", launched_at=BORN, ready_at=BORN + 100, last_request_at=NOW)
NEW = node(name="i-new", ready_at=NOW - 1)
BUSY = {NodeId("i-old"): 1}


def test_an_old_node_that_works_is_replaced_while_it_works_on() -> None:
    assert actions(OLD, in_flight=BUSY) == [Start(NAME)]


def test_the_replacement_is_wished_for_so_that_its_start_is_not_cancelled() -> None:
    world = World({NAME: MODEL}, {NAME: ModelRow(NAME, CONFIG)}, nodes=[OLD], in_flight=BUSY)
    assert any(isinstance(action, Hold) for action in plan(world, NOW, POLICY))
    starting = node(NodeState.BOOTING, "i-new", launched_at=NOW - 20)
    assert actions(OLD, starting, in_flight=BUSY) == []


def test_a_node_that_is_kept_awake_is_replaced_too() -> None:
    kept = wish(hold_until=0.0, keep_awake_until=NOW + 9999)
    assert actions(OLD, wishes={NAME: kept}) == [Start(NAME)]


def test_an_old_node_that_nobody_uses_is_not_replaced() -> None:
    assert actions(OLD) == []  # idle soon, and then it goes


def test_the_old_one_drains_when_the_new_one_serves_and_the_new_one_stays() -> None:
    assert actions(OLD, NEW, in_flight=BUSY) == [Drain(OLD, OUTLIVED)]


def test_a_node_of_ordinary_age_is_left_alone() -> None:
    young = replace(OLD, launched_at=BORN + 60)
    assert actions(young, in_flight=BUSY) == []


def test_a_node_that_aws_may_take_back_goes_and_not_the_one_that_takes_its_place() -> None:
    risky = replace(OLD, launched_at=NOW - 500, ready_at=NOW - 400, rebalance_at=NOW - 300)
    drains = [action for action in actions(risky, NEW, in_flight=BUSY) if isinstance(action, Drain)]
    assert [drain.node.id for drain in drains] == [risky.id]


def test_the_lease_of_an_old_node_is_renewed_as_any() -> None:
    world = World({NAME: MODEL}, {NAME: ModelRow(NAME, CONFIG)}, nodes=[replace(OLD, lease_until=NOW)], in_flight=BUSY)
    assert any(isinstance(action, Renew) for action in plan(world, NOW, POLICY))


def test_a_node_is_replaced_before_it_drains_by_itself_whatever_its_lifetime() -> None:
    for lifetime_s in (3600.0, 7200.0, LIFETIME_S):
        its_own = BORN + lifetime_s - LeasePolicy(max_lifetime_s=lifetime_s).last_drain_s
        assert replaced_from(OLD, lifetime_s, POLICY) < its_own
