"""The life of a node, with a stepped clock and no AWS."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from gpu_node.agent import FAILED_GRACE_S, LEAVE_ATTEMPTS, STOP_GRACE_S
from gpu_node.engine import EngineSpec, Line, Load
from gpu_node.protocol import NodeState, Phase
from gpu_node.settings import NodeSettings
from gpu_node.table import FIRST_LEASE_S, ModelRow
from tests.gpu_node.world import LOADING, SETTINGS, SHARDS, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_node_boots_serves_drains_and_goes(world: World) -> None:
    world.renew_always()
    world.clock.at(10, world.engine.say(LOADING))
    world.clock.at(20, world.engine.say(SHARDS))
    world.ready_after(30)
    world.clock.at(100, lambda: world.order(NodeState.DRAINING))
    world.clock.at(150, lambda: world.order(NodeState.TERMINATED))
    assert world.live() == 0
    assert world.table.states == [NodeState.BOOTING, NodeState.READY]
    phases = [record.phase for record in world.table.reports[-1].phases]
    assert phases == [Phase.INSTANCE, Phase.DRIVER, Phase.ENGINE_INSTALL, Phase.WEIGHTS, Phase.LOAD]
    assert world.engine.stopped == [STOP_GRACE_S]
    assert world.table.terminated == 1
    assert 1150 <= world.clock.now <= 1150 + SETTINGS.heartbeat_s + SETTINGS.poll_s


def test_the_engine_serves_what_the_models_row_says(world: World) -> None:
    world.table.row = ModelRow({"name": "tiny", "revision": "v1", "vllmArgs": "--a 1"}, {"vllmArgs": "--b 2"})
    world.agent.turn()
    assert world.specs == [EngineSpec("tiny", "tiny", "v1", ("--b", "2"))]


def test_the_first_word_comes_before_anything_that_takes_time(world: World) -> None:
    world.table.broken.add("model")
    world.agent.turn()
    first = world.table.reports[0]
    assert (first.state, [record.phase for record in first.phases]) == (NodeState.BOOTING, [Phase.INSTANCE])
    assert (first.ip, first.instance_type, first.market) == ("10.0.0.1", "g5.xlarge", "spot")


def test_ready_is_written_at_once_not_at_the_next_heartbeat(world: World) -> None:
    world.ready_after(3)
    world.clock.at(4, world.agent.stop)
    world.live()
    ready = next(report for report in world.table.reports if report.state is NodeState.READY)
    assert ready.heartbeat_at <= 1003 + SETTINGS.boot_poll_s


def test_a_new_phase_is_written_at_once(world: World) -> None:
    world.clock.at(5, world.engine.say(LOADING))
    world.clock.at(6, world.agent.stop)
    world.live()
    last = world.table.reports[-1]
    assert last.phases[-1].phase is Phase.WEIGHTS
    assert last.heartbeat_at <= 1005 + SETTINGS.boot_poll_s


def test_without_news_only_heartbeats_are_written(world: World) -> None:
    world.renew_always()
    world.ready_after(1)
    world.clock.at(101.5, world.agent.stop)
    world.live()
    beats = [report.heartbeat_at for report in world.table.reports if report.state is NodeState.READY]
    assert len(beats) == 11
    assert all(later - earlier >= SETTINGS.heartbeat_s for earlier, later in pairwise(beats))


def test_the_log_is_told_while_booting_and_not_when_ready(world: World) -> None:
    world.clock.at(1, world.engine.say(LOADING))
    world.ready_after(5)
    world.clock.at(6, world.agent.stop)
    world.live()
    booting, ready = (
        [report for report in world.table.reports if report.state is state][-1]
        for state in (NodeState.BOOTING, NodeState.READY)
    )
    assert list(booting.log_tail) == [LOADING]
    assert list(ready.log_tail) == []


def test_heartbeats_tell_the_engines_requests(world: World) -> None:
    world.engine.current = Load(running=3, waiting=2)
    world.ready_after(1)
    world.clock.at(15, world.agent.stop)
    world.live()
    assert (world.table.reports[-1].running, world.table.reports[-1].waiting) == (3, 2)


def test_a_heartbeat_tells_what_the_engine_says_at_its_time(world: World) -> None:
    """A drain begun before it is over when it tells of nothing: a request from since the last turn must be in it."""
    world.renew_always()
    world.ready_after(1)
    world.engine.load = lambda: Load(running=round(world.clock.now), waiting=0)  # type: ignore[method-assign]
    world.clock.at(35, world.agent.stop)
    world.live()
    _, *beats = [report for report in world.table.reports if report.state is NodeState.READY]  # nobody knew it before
    assert len(beats) > 2
    assert [beat.running for beat in beats] == [round(beat.heartbeat_at) for beat in beats]


# -- failures of the start -----------------------------------------------------------------------------------------


def failure_code(world: World) -> str:
    error = world.table.reports[-1].error
    assert world.table.reports[-1].state is NodeState.FAILED
    assert error is not None
    return error.code


def test_a_machine_without_a_working_gpu_fails_before_the_engine_starts(world: World) -> None:
    world.gpu = False
    assert world.live() == 1
    assert failure_code(world) == "driver_missing"
    assert (world.specs, world.table.terminated) == ([], 1)


def test_the_driver_check_can_be_left_out() -> None:
    world = World(NodeSettings(model="tiny", driver_check=False))
    world.gpu = False
    world.agent.turn()
    assert len(world.specs) == 1
    assert Phase.DRIVER not in [record.phase for record in world.table.reports[-1].phases]


def test_a_model_that_is_not_configured_fails_with_a_reason(world: World) -> None:
    world.table.row = None
    assert world.live() == 1
    assert failure_code(world) == "model_not_configured"


def test_arguments_that_are_no_words_fail_with_a_reason(world: World) -> None:
    world.table.row = ModelRow({"name": "tiny", "vllmArgs": "--a 'unclosed"}, {})
    assert world.live() == 1
    assert failure_code(world) == "bad_engine_argument"


def test_a_missing_program_fails_with_a_reason(world: World) -> None:
    world.program_missing = True
    assert world.live() == 1
    assert failure_code(world) == "engine_missing"


@pytest.mark.parametrize("line", ["", LOADING, SHARDS, "torch.compile took 20 s in total", "init engine (x) took 1 s"])
def test_an_engine_that_dies_in_any_phase_of_its_start_is_explained(world: World, line: str) -> None:
    world.clock.at(1, world.engine.say(line))
    world.clock.at(2, lambda: world.engine.die(1, "torch.OutOfMemoryError: CUDA out of memory."))
    assert world.live() == 1
    assert failure_code(world) == "out_of_gpu_memory"
    assert world.table.reports[-1].log_tail[-1] == "torch.OutOfMemoryError: CUDA out of memory."
    assert world.table.terminated == 1
    assert world.clock.now <= 1003


def test_a_start_that_takes_too_long_is_given_up(world: World) -> None:
    world.renew_always()
    assert world.live() == 1
    assert failure_code(world) == "boot_too_slow"
    assert world.clock.now <= 1000 + SETTINGS.boot_limit_s + 1
    assert world.engine.stopped == [FAILED_GRACE_S]


LIMITS = [
    ((), SETTINGS.install_limit_s, "engine-install"),
    ((LOADING,), SETTINGS.weights_limit_s, "weights"),
    ((LOADING, SHARDS), SETTINGS.load_limit_s, "load"),
    ((LOADING, SHARDS, "torch.compile took 20 s in total"), SETTINGS.compile_limit_s, "compile"),
    ((LOADING, SHARDS, "init engine (x) took 1 s"), SETTINGS.warmup_limit_s, "warmup"),
]


@pytest.mark.parametrize(("lines", "limit_s", "phase"), LIMITS, ids=[phase for _, _, phase in LIMITS])
def test_every_phase_has_a_deadline_of_its_own(world: World, lines: Sequence[str], limit_s: float, phase: str) -> None:
    world.renew_always()
    for number, line in enumerate(lines, start=1):
        world.clock.at(number, world.engine.say(line))
    assert world.live() == 1
    assert failure_code(world) == "boot_too_slow"
    error = world.table.reports[-1].error
    assert error is not None
    assert phase in error.message
    assert error.fix
    assert limit_s <= world.clock.now - 1000 <= limit_s + len(lines) + 1


def test_an_engine_that_dies_when_ready_has_crashed_whatever_its_log_says(world: World) -> None:
    world.ready_after(1)
    world.clock.at(5, lambda: world.engine.die(-9, "error: unrecognized arguments"))
    assert world.live() == 1
    assert failure_code(world) == "engine_crashed"
    assert world.table.states == [NodeState.BOOTING, NodeState.READY, NodeState.FAILED]


@pytest.mark.parametrize(
    ("last_words", "starved", "code"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", False, "out_of_gpu_memory"),
        ("CUDA error: an illegal memory access was encountered", False, "cuda_error"),
        ("EngineDeadError: EngineCore encountered an issue.", True, "host_out_of_memory"),
    ],
)
def test_an_engine_that_dies_when_ready_is_explained_in_its_last_report(
    world: World, last_words: str, starved: bool, code: str
) -> None:
    world.ready_after(1)
    world.clock.at(5, lambda: world.engine.die(1, last_words))
    world.engine.starved = starved
    assert world.live() == 1
    last = world.table.reports[-1]
    assert last.error is not None
    assert (last.state, last.error.code, last.error.cause) == (NodeState.FAILED, code, last_words)
    assert last.log_tail[-1] == last_words
    assert not last.error.permanent


def test_an_engine_that_answers_nothing_any_more_has_crashed(world: World) -> None:
    world.renew_always()
    world.ready_after(1)
    world.clock.at(50, lambda: setattr(world.engine, "current", None))
    assert world.live() == 1
    assert failure_code(world) == "engine_crashed"
    assert 1050 + SETTINGS.unresponsive_limit_s - 2 <= world.clock.now <= 1050 + SETTINGS.unresponsive_limit_s + 2


# -- the table does not answer -------------------------------------------------------------------------------------


def test_a_table_that_is_late_only_delays_the_start(world: World) -> None:
    world.table.broken |= {"report", "model"}
    world.clock.at(60, world.table.broken.clear)
    world.ready_after(70)
    world.clock.at(75, world.agent.stop)
    world.live()
    assert world.table.states[:2] == [NodeState.BOOTING, NodeState.READY]
    assert len(world.specs) == 1


@pytest.mark.parametrize("call", ["report", "model"])
def test_a_table_that_never_answers_ends_the_node(world: World, call: str) -> None:
    world.table.broken.add(call)
    assert world.live() == 0
    assert world.table.terminated == 1
    assert world.clock.now <= 1000 + max(SETTINGS.blind_limit_s, FIRST_LEASE_S) + 10


def test_a_node_that_got_ready_unseen_goes_through_booting_first(world: World) -> None:
    world.table.broken.add("report")
    world.clock.at(30, world.table.broken.clear)
    world.ready_after(10)
    world.clock.at(35, world.agent.stop)
    world.live()
    assert world.table.states == [NodeState.BOOTING, NodeState.READY, NodeState.DRAINING]


def test_a_failure_is_reported_even_when_the_table_is_late(world: World) -> None:
    world.clock.at(1, lambda: world.table.broken.add("report"))
    world.clock.at(2, lambda: world.engine.die(1, "No space left on device"))
    world.clock.at(40, world.table.broken.clear)
    assert world.live() == 1
    assert failure_code(world) == "disk_full"


def test_a_failure_that_cannot_be_reported_ends_the_node_all_the_same(world: World) -> None:
    world.clock.at(1, lambda: world.table.broken.add("report"))
    world.clock.at(2, lambda: world.engine.die(1))
    assert world.live() == 1
    assert world.table.terminated == 1
    assert world.clock.now <= 1002 + SETTINGS.notice_s + 2  # not as long as a node that still serves would try


def test_leaving_the_group_is_tried_again(world: World) -> None:
    world.table.broken.add("terminate")
    world.clock.at(100, lambda: world.order(NodeState.TERMINATED))
    world.clock.at(105, world.table.broken.clear)
    assert world.live() == 0
    assert world.table.terminated == 1
    assert world.table.attempts > 1


def test_a_group_that_cannot_be_left_does_not_keep_the_machine_up(world: World) -> None:
    world.table.broken.add("terminate")
    world.clock.at(100, lambda: world.order(NodeState.TERMINATED))
    assert world.live() == 0
    assert world.table.attempts == LEAVE_ATTEMPTS


def test_a_lost_table_does_not_cut_requests_until_twice_the_limit(world: World) -> None:
    world.table.lease_until = 9e9
    world.engine.current = Load(1, 0)
    world.ready_after(1)
    world.clock.at(100, lambda: world.table.broken.add("report"))
    assert world.live() == 0
    assert 1100 + 2 * SETTINGS.blind_limit_s - 15 <= world.clock.now <= 1100 + 2 * SETTINGS.blind_limit_s + 15


# -- the end -------------------------------------------------------------------------------------------------------


def test_an_idle_node_ends_when_its_lease_runs_out(world: World) -> None:
    world.ready_after(1)
    assert world.live() == 0
    assert 1000 + FIRST_LEASE_S <= world.clock.now <= 1000 + FIRST_LEASE_S + 20


def test_a_renewed_lease_keeps_the_node(world: World) -> None:
    world.ready_after(1)
    world.clock.at(500, lambda: setattr(world.table, "lease_until", 3000.0))
    assert world.live() == 0
    assert 3000 <= world.clock.now <= 3020


def test_a_busy_node_outlives_its_lease_until_its_requests_end(world: World) -> None:
    world.engine.current = Load(1, 0)
    world.ready_after(1)
    world.clock.at(FIRST_LEASE_S + 200, lambda: setattr(world.engine, "current", Load(0, 0)))
    assert world.live() == 0
    assert 1000 + FIRST_LEASE_S + 200 <= world.clock.now <= 1000 + FIRST_LEASE_S + 210


def test_a_node_that_boots_without_a_lease_ends_too(world: World) -> None:
    assert world.live() == 0
    assert world.table.states == [NodeState.BOOTING]
    assert world.clock.now <= 1000 + FIRST_LEASE_S + 20


@pytest.mark.parametrize("after_s", [0.0, 5.0, 50.0])
def test_a_signal_stops_the_engine_and_leaves_the_group_alone(world: World, after_s: float) -> None:
    world.ready_after(20)
    world.clock.at(after_s, world.agent.stop)
    assert world.live() == 0
    assert world.engine.stopped == [STOP_GRACE_S]
    assert world.table.attempts == 0
    assert world.clock.now <= 1000 + after_s + 1


def test_a_signal_before_the_first_turn_starts_nothing(world: World) -> None:
    world.agent.stop()
    assert world.live() == 0
    assert (world.specs, world.table.reports) == ([], [])


def test_an_error_nobody_foresaw_is_logged_once_and_does_not_stop_the_lease(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Sequence[Line]:
        raise ZeroDivisionError

    monkeypatch.setattr(world.engine.output, "take", broken)
    assert world.live() == 0
    assert world.clock.now <= 1000 + FIRST_LEASE_S + 20
    assert [record.message for record in caplog.records].count("agent error") == 1
