"""How a node goes though its engine is well: out of routing first, then the engine, then the machine; and in time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gpu_node.agent import LATEST_START_S, STOP_GRACE_S
from gpu_node.engine import Load, Proof
from gpu_node.lease import LeasePolicy
from gpu_node.protocol import DRAIN_HOOK_S, NodeState
from gpu_node.settings import NodeSettings
from gpu_node.table import FIRST_LEASE_S
from tests.gpu_node.world import SETTINGS, FakeProbe, World

POLICY = LeasePolicy()
LOOK_S = SETTINGS.heartbeat_s + SETTINGS.poll_s
LIFETIME_S = 7200.0


@pytest.fixture
def world() -> World:
    world = World()
    world.renew_always()
    world.ready_after(1)
    return world


def mortal(launched_at: float = 0.0) -> World:
    world = World(NodeSettings(model="tiny", max_lifetime_s=LIFETIME_S), launched_at=launched_at)
    world.renew_always()
    world.ready_after(1)
    return world


def busy_until(world: World, after_s: float) -> None:
    world.engine.current = Load(1, 0)
    world.clock.at(after_s, lambda: setattr(world.engine, "current", Load(0, 0)))


# -- taken down by AWS ---------------------------------------------------------------------------------------------


def test_a_node_that_is_taken_down_drains_first_and_says_why(world: World) -> None:
    busy_until(world, 400)
    world.taken_down_after(100)
    assert world.live() == 0
    assert world.table.states == [NodeState.BOOTING, NodeState.READY, NodeState.DRAINING]
    draining = next(report for report in world.table.reports if report.state is NodeState.DRAINING)
    assert (draining.reason, draining.heartbeat_at <= 1100 + LOOK_S) == ("its group takes it down", True)
    assert 1400 <= world.clock.now <= 1405
    assert (world.engine.stopped, world.table.terminated) == ([STOP_GRACE_S], 1)


def test_the_engine_is_told_to_stop_only_after_the_row_says_so(world: World) -> None:
    world.taken_down_after(100)
    world.live()
    assert world.engine.when_stopped == [NodeState.DRAINING]


def test_a_control_plane_has_time_to_see_that_a_node_leaves(world: World) -> None:
    world.taken_down_after(100)
    assert world.live() == 0
    assert 1100 + POLICY.notice_s <= world.clock.now <= 1100 + LOOK_S + POLICY.notice_s + 2


def test_requests_without_end_do_not_keep_a_node_past_what_its_group_grants(world: World) -> None:
    world.engine.current = Load(1, 0)
    world.taken_down_after(100)
    assert world.live() == 0
    assert 1100 + POLICY.drain_limit_s <= world.clock.now
    assert world.clock.now + STOP_GRACE_S < 1100 + DRAIN_HOOK_S


def test_a_start_that_is_taken_down_is_given_up() -> None:
    world = World()
    world.renew_always()
    world.taken_down_after(50)
    assert world.live() == 0
    assert world.table.states == [NodeState.BOOTING]
    assert world.clock.now <= 1050 + LOOK_S + POLICY.notice_s + 2


def test_a_metadata_service_that_falls_silent_changes_nothing(world: World) -> None:
    world.metadata = None
    world.clock.at(100, world.control_plane_gone)
    assert world.live() == 0
    assert 1300 <= world.clock.now <= 1100 + 300 + 20


def test_what_the_group_has_in_mind_is_asked_no_oftener_than_the_table(world: World) -> None:
    world.clock.at(101, world.agent.stop)
    world.live()
    assert 9 <= world.metadata_asked <= 11


# -- a lifetime ----------------------------------------------------------------------------------------------------


def test_no_node_outlives_its_lifetime_however_well_it_is() -> None:
    world = mortal()
    world.engine.current = Load(1, 0)
    assert world.live() == 0
    assert LIFETIME_S - 2 <= world.clock.now - 1000 <= LIFETIME_S + 2
    assert world.engine.when_stopped == [NodeState.DRAINING]


@pytest.mark.parametrize(
    ("launched_at", "counts_from"),
    [
        (800.0, 800.0),
        (0.0, 1000.0),  # not told
        (2000.0, 1000.0),  # its clock is behind AWS's
        (-900_000.0, 1000.0 - LATEST_START_S),  # its clock is ahead by days
    ],
)
def test_a_lifetime_begins_with_the_machine_and_not_with_its_agent(launched_at: float, counts_from: float) -> None:
    world = mortal(launched_at)
    world.engine.current = Load(1, 0)
    assert world.live() == 0
    assert counts_from + LIFETIME_S <= world.clock.now <= counts_from + LIFETIME_S + 2


def test_a_node_drains_before_its_lifetime_ends_and_goes_when_it_is_idle() -> None:
    world = mortal()
    assert world.live() == 0
    last_drain_s = LeasePolicy(max_lifetime_s=LIFETIME_S).last_drain_s
    assert world.table.reports[-1].reason == "its lifetime is nearly over"
    assert LIFETIME_S - last_drain_s <= world.clock.now - 1000 <= LIFETIME_S + 2
    assert world.table.terminated == 1


# -- a clock that jumps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_s", [-86400.0, -120.0, 120.0, 86400.0])
def test_a_node_whose_clock_jumps_leaves_by_itself(world: World, by_s: float) -> None:
    world.clock.at(100, lambda: world.set_clock(by_s))
    assert world.live() == 0
    assert "jumped" in world.table.reports[-1].reason
    assert world.clock.now <= 1100 + POLICY.notice_s + 5
    assert all(1000 <= report.heartbeat_at <= world.clock.now for report in world.table.reports)


def test_a_clock_that_jumps_cuts_no_request(world: World) -> None:
    busy_until(world, 500)
    world.clock.at(100, lambda: world.set_clock(-86400.0))
    assert world.live() == 0
    assert 1500 <= world.clock.now <= 1505


def test_a_small_correction_is_no_jump(world: World) -> None:
    world.clock.at(100, lambda: world.set_clock(5.0))
    world.clock.at(1000, world.agent.stop)
    assert world.live() == 0
    assert world.table.states[-1] is NodeState.DRAINING  # by the signal
    assert world.table.reports[-1].reason == "the machine is shut down"


@pytest.mark.parametrize("by_s", [-86400.0, 86400.0])
def test_a_jump_does_not_lengthen_the_life_of_a_node_whose_control_plane_is_gone(by_s: float) -> None:
    world = World()
    world.ready_after(1)
    world.engine.current = Load(1, 0)  # a request without end
    world.clock.at(100, lambda: world.set_clock(by_s))
    assert world.live() == 0
    assert world.clock.now <= 1000 + FIRST_LEASE_S + POLICY.busy_limit_s + POLICY.grace_s + 20


def test_no_lease_reaches_into_another_day() -> None:
    world = World()
    world.ready_after(1)
    world.table.lease_until = 9e9  # by a control plane with another idea of the time, that then fell silent
    assert world.live() == 0
    assert world.clock.now <= 1000 + 1800 + POLICY.grace_s + 20


# -- an engine that hangs ------------------------------------------------------------------------------------------

HANGS = Load(1, 0, {"generation_tokens_total": 7.0})


def hang(world: World, after_s: float) -> None:
    world.clock.at(after_s, lambda: setattr(world.engine, "current", HANGS))


def answers(world: World, proof: Proof, after_s: float | None = None) -> None:
    """What comes of every probe from now on; at its limit where no time is given."""

    def asked(probe: FakeProbe) -> None:
        seconds = probe.limit_s if after_s is None else after_s
        world.clock.at(world.clock.now - 1000 + seconds, lambda: setattr(probe, "proof", proof))

    world.engine.probed = asked


def test_an_engine_that_hangs_is_asked_for_one_token_and_given_up(world: World) -> None:
    hang(world, 100)
    answers(world, Proof.NONE)
    assert world.live() == 1
    last = world.table.reports[-1]
    assert last.error is not None
    assert (last.state, last.error.code) == (NodeState.FAILED, "engine_hung")
    bound_s = SETTINGS.suspect_after_s + SETTINGS.probe_limit_s
    assert 1100 + bound_s <= world.clock.now <= 1100 + bound_s + 5
    beats = [report.heartbeat_at for report in world.table.reports]
    assert max(later - earlier for earlier, later in pairwise(beats)) <= SETTINGS.heartbeat_s + 2


def test_an_engine_that_only_works_on_something_long_is_left_alone(world: World) -> None:
    hang(world, 100)
    answers(world, Proof.WORKS, 0)
    world.clock.at(400, world.agent.stop)
    assert world.live() == 0
    assert NodeState.FAILED not in world.table.states
    assert 4 <= len(world.engine.probes) <= 5


def test_one_question_at_a_time(world: World) -> None:
    hang(world, 100)
    world.clock.at(1000, world.agent.stop)
    world.live()
    assert len(world.engine.probes) == 1


def test_an_engine_that_could_not_is_given_up_at_once(world: World) -> None:
    hang(world, 100)
    answers(world, Proof.FAILS, 1)
    assert world.live() == 1
    assert world.table.reports[-1].state is NodeState.FAILED
    assert world.clock.now <= 1100 + SETTINGS.suspect_after_s + 10


def count_tokens(world: World, tokens: float) -> None:
    load = Load(2, 1, {"prompt_tokens_total": tokens})
    world.engine.current = load


def test_a_probe_that_waits_behind_long_prompts_convicts_nobody(world: World) -> None:
    """Each prompt takes 100 s to be read and counts then; the probe's own turn comes after the last of them."""
    for number in range(5):
        world.clock.at(100 + 100 * number, lambda number=number: count_tokens(world, 65536.0 * number))  # type: ignore[misc]
    answers(world, Proof.NONE)
    world.clock.at(595, world.agent.stop)
    assert world.live() == 0
    assert NodeState.FAILED not in world.table.states
    asked = [probe.asked_at - 1100 for probe in world.engine.probes]
    assert len(asked) == 5
    assert all(SETTINGS.suspect_after_s <= at % 100 <= SETTINGS.suspect_after_s + 5 for at in asked)


def test_a_token_counted_in_the_moment_of_the_verdict_clears(world: World) -> None:
    hang(world, 100)

    def too_late(probe: FakeProbe) -> None:
        probe.proof = Proof.FAILS
        count_tokens(world, 8.0)

    world.engine.probed = too_late
    world.clock.at(100 + 1.5 * SETTINGS.suspect_after_s, world.agent.stop)
    assert world.live() == 0
    assert len(world.engine.probes) == 1
    assert NodeState.FAILED not in world.table.states


def test_an_engine_whose_queue_is_full_is_asked_again_and_has_the_same_time(world: World) -> None:
    hang(world, 100)
    answers(world, Proof.NONE, 1)
    assert world.live() == 1
    bound_s = SETTINGS.suspect_after_s + SETTINGS.probe_limit_s
    assert 1100 + bound_s <= world.clock.now <= 1100 + bound_s + 5
    first, second, *_ = world.engine.probes
    assert second.limit_s < first.limit_s
    assert min(probe.limit_s for probe in world.engine.probes) > 0


def test_an_engine_whose_queue_was_full_is_cleared_by_what_it_does(world: World) -> None:
    hang(world, 100)
    answers(world, Proof.NONE, 1)
    for second in range(210, 600, 50):
        world.clock.at(second, lambda second=second: count_tokens(world, float(second)))  # type: ignore[misc]
    world.clock.at(600, world.agent.stop)
    assert world.live() == 0
    assert NodeState.FAILED not in world.table.states


# -- the service manager -------------------------------------------------------------------------------------------


def test_every_turn_is_a_sign_of_life(world: World) -> None:
    world.clock.at(50, world.agent.stop)
    world.live()
    assert world.turns >= 49
