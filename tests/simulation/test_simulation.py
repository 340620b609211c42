"""The simulation itself: the same seed is the same story, a few hundred hold, and planted bugs are caught."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.simulation.hunt import hunted, smallest
from tests.simulation.mutants import MUTANTS, mutant
from tests.simulation.planting import Mutant
from tests.simulation.schedule import MODELS, Ask, BadStarts, CrashTask, KillMachine, Retire, Schedule, draw, shrunk
from tests.simulation.settings import SETTINGS
from tests.simulation.starts import FATES
from tests.simulation.timeline import EPOCH
from tests.simulation.world import World

HELD = range(300)
HOME = Path(__file__).parents[2]
QUICK = (
    "reconciler drains no idle node",
    "janitor looks after no nodes",
    "node ignores its lease",
    "listener turns to a task that is not healthy",
    "launch leaves no intent",
    "night watch writes no wish",
)


def test_a_few_hundred_schedules_hold() -> None:
    tally = hunted(HELD)
    assert not tally.found, [str(found) for found in tally.found]
    assert tally.endings["answered"] > len(HELD)
    assert tally.launches > len(HELD)


def test_the_same_seed_is_the_same_story() -> None:
    def told(seed: int) -> object:
        world = World(draw(seed))
        world.run()
        return world.timeline.now, world.timeline.steps, [client.tried for client in world.people.clients]

    assert [told(seed) for seed in range(20)] == [told(seed) for seed in range(20)]


def test_a_crash_drops_a_process_between_two_awaits_and_the_next_one_goes_on() -> None:
    asks = tuple(Ask(at, "org/small", 5.0, stream=True, manner="python") for at in (5.0, 190.0))
    world = World(Schedule(1, (*asks, CrashTask(110.0))))
    assert world.run() is None
    assert [client.ending for client in world.people.clients] == ["answered", "answered"]
    assert len(world.watch.crashes) == 1


def test_a_machine_that_dies_under_a_stream_is_told_and_no_breach() -> None:
    ask = Ask(5.0, "org/small", 40.0, stream=True, manner="curl")
    world = World(Schedule(1, (ask, KillMachine(85.0))))
    assert world.run() is None
    assert world.people.clients[0].ending == "told engine_lost"


@pytest.mark.parametrize("fate", FATES)
def test_a_definition_that_does_not_start_is_told_and_after_a_good_one_there_is_an_answer(fate: str) -> None:
    asks = [Ask(at, "org/small", 5.0, stream=True, manner="curl") for at in (5.0, 450.0)]
    world = World(Schedule(1, (BadStarts(0.0, fate, seconds=400.0), *asks)))
    assert world.run() is None
    assert [client.ending for client in world.people.clients] == ["told control_plane_not_starting", "answered"]


def test_two_tasks_that_end_at_their_start_end_no_wake() -> None:
    ask = Ask(5.0, "org/small", 5.0, stream=True, manner="curl")
    world = World(Schedule(1, (BadStarts(0.0, "exit", times=2), ask)))
    assert world.run() is None
    assert [client.ending for client in world.people.clients] == ["answered"]


@pytest.mark.parametrize("deregisters", [False, True])
def test_who_waits_in_a_task_that_has_to_go_is_told_so(deregisters: bool) -> None:
    warm, cold = [
        Ask(at, model, 5.0, stream=True, manner="curl") for at, model in ((5.0, MODELS[0]), (120.0, MODELS[1]))
    ]
    world = World(Schedule(1, (warm, cold, Retire(125.0, rolling=False)), boot_s=90.0, deregisters=deregisters))
    assert world.run() is None
    assert [client.ending for client in world.people.clients] == ["answered", "told restarting"]
    assert world.people.clients[1].ended_at < 125.0 + SETTINGS.deregistration_delay_s


def test_a_body_that_is_slow_to_come_wakes_nobody_before_it_is_there() -> None:
    left, stays = (
        Ask(5.0, "org/small", 5.0, True, "aiohttp", patience_s, upload_s=30.0) for patience_s in (20.0, None)
    )
    world = World(Schedule(1, (left,)))
    assert world.run() is None
    assert world.launched == 0
    world = World(Schedule(1, (left, stays)))
    assert world.run() is None
    assert [client.ending for client in world.people.clients] == ["hung up", "answered"]
    assert world.front.history[0] == "waking"
    assert min(life.launched_at or 0.0 for life in world.cloud.lifetimes.values()) > EPOCH + 35.0


def test_shrinking_keeps_what_fails_and_drops_the_rest() -> None:
    whole = draw(7)
    last = whole.events[-1]
    assert shrunk(whole, lambda schedule: last in schedule.events).events == (last,)


def test_what_holds_cannot_be_shrunk() -> None:
    with pytest.raises(AssertionError, match="holds"):
        smallest(0)


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_caught(name: str) -> None:
    found = _run(mutant(name), schedules=150)
    assert found["invariant"] in mutant(name).expected, found


def test_every_planted_bug_has_its_place() -> None:
    lost = []
    for one in MUTANTS:
        for change in one.changes:
            source = (HOME / (change.module.replace(".", "/") + ".py")).read_text()
            if source.count(change.old) != 1:
                lost.append((one.name, change.module))
    assert lost == []


def test_every_planted_bug_says_what_catches_it() -> None:
    assert all(one.expected for one in MUTANTS)
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("planted", MUTANTS, ids=lambda planted: planted.name)
def test_the_place_of_every_planted_bug_is_still_there(planted: Mutant) -> None:
    for change in planted.changes:
        spec = find_spec(change.module)
        assert spec
        assert spec.origin
        assert Path(spec.origin).read_text().count(change.old) == 1


def _run(planted: Mutant, *, schedules: int) -> dict[str, object]:
    """In a process of its own, as ``--mutants`` does."""
    command = [sys.executable, "-m", "tests.simulation", "--mutant", planted.name, "--schedules", str(schedules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found
