"""What a group takes out by itself, and holds until it is released: its streams end, then it goes."""

from __future__ import annotations

import pytest

from control_plane.actions import Bury, Drain, Release, Renew
from control_plane.nodes import Node
from control_plane.plan import plan
from control_plane.settings import Settings
from control_plane.world import World
from gpu_node.protocol import DRAIN_HOOK_S, NodeState
from tests.unit.planning import CRASH, MODEL, NAME, NOW, POLICY, actions, group, held, instance, kinds, node, wish


def test_an_instance_that_is_on_its_way_out_is_not_lost() -> None:
    (action,) = actions(node(), groups=[group(instance(alive=False, leaving=True))])
    assert action == Drain(node(), "its group takes it down")


@pytest.mark.parametrize(
    "leaving", [node(NodeState.DRAINING), node(NodeState.FAILED, error=CRASH, ready_at=1.0)], ids=["draining", "failed"]
)
def test_a_held_instance_is_released_and_not_terminated_again(leaving: Node) -> None:
    # Terminating it twice might lower the group's desired capacity twice, and so take another node along.
    here = group(held())
    assert actions(leaving, groups=[here]) == [Release(here, held())]


def test_a_held_instance_stays_until_its_last_request_ended_or_its_drain_deadline() -> None:
    draining, late = node(NodeState.DRAINING), node(NodeState.DRAINING, draining_since=NOW - 301)
    here = group(held())
    assert kinds(draining, groups=[here], in_flight={draining.id: 1}) == []
    assert kinds(late, groups=[here], in_flight={late.id: 1}) == [Release]


def test_a_held_instance_that_serves_keeps_its_lease() -> None:
    draining = node(NodeState.DRAINING, lease_until=NOW)
    full = World(models={NAME: MODEL}, nodes=[draining], groups=[group(held())], in_flight={draining.id: 1})
    assert [type(action) for action in plan(full, NOW, POLICY)] == [Renew]


def test_a_ready_node_whose_group_takes_it_down_drains_though_it_is_in_use() -> None:
    used = node()
    (action,) = actions(used, groups=[group(held())], in_flight={used.id: 1}, waiters={NAME: 1})
    assert action == Drain(used, "its group takes it down")


@pytest.mark.parametrize("state", [NodeState.PENDING, NodeState.BOOTING])
def test_a_start_whose_group_takes_it_down_is_cancelled_and_counts_as_no_failure(state: NodeState) -> None:
    starting = node(state)
    found = actions(starting, groups=[group(held())], waiters={NAME: 1}, wishes={NAME: wish()})
    assert found == [Drain(starting, "its group takes it down")]


def test_a_node_whose_group_takes_it_down_makes_no_other_one_superfluous() -> None:
    taken, stays = node(name="i-1", ready_at=NOW - 60), node(name="i-2", ready_at=NOW - 20)
    found = actions(taken, stays, groups=[group(held("i-1"), instance("i-2"))])
    assert found == [Drain(taken, "its group takes it down")]


def test_a_node_of_a_deleted_group_is_buried_once_no_group_has_it() -> None:
    assert kinds(node(NodeState.DRAINING), groups=[]) == [Bury]


def test_a_held_instance_without_a_row_is_released_and_never_adopted() -> None:
    here = group(held())
    assert actions(groups=[here]) == [Release(here, held())]


def test_the_hook_outlasts_the_longest_drain_and_the_time_until_it_is_seen() -> None:
    settings = Settings()
    assert settings.cloud_watch_s + settings.drain_timeout_s + 2 * settings.tick_s < DRAIN_HOOK_S
