"""Schedules by the thousand, on every core; what fails is shrunk."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.failed import FAILED
from tests.simulation.schedule import Schedule, draw, shrunk
from tests.simulation.traces import varied
from tests.simulation.watch import Breach
from tests.simulation.world import World

CHUNK = 100  # schedules that a process takes at a time


@dataclass(frozen=True)
class Found:
    """A seed whose schedule breaks an invariant."""

    seed: int
    breach: Breach
    trace: str = ""  # or one of ``traces``, by its title


@dataclass(frozen=True)
class Tally:
    """What many schedules came to."""

    schedules: int
    endings: Counter[str]
    launches: int
    doubles: int  # launches beyond need at a hand-over, which is allowed
    virtual_s: float
    found: Sequence[Found]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.schedules + other.schedules,
            self.endings + other.endings,
            self.launches + other.launches,
            self.doubles + other.doubles,
            self.virtual_s + other.virtual_s,
            [*self.found, *other.found],
        )


NOTHING = Tally(0, Counter(), 0, 0, 0.0, ())


def outcome(schedule: Schedule) -> Breach | None:
    """Of one schedule."""
    with _quiet() as errors:
        world = World(schedule)
        breach = world.run()
    return breach or (Breach(world.timeline.now, "fault", errors[0]) if errors else None)


def hunted(seeds: Sequence[int]) -> Tally:
    """Run each."""
    tally = NOTHING
    with _quiet() as errors:
        for seed in seeds:
            tally += _one(seed, errors)
            gc.collect(0)  # a schedule leaves three thousand objects in cycles: they are looked for once, here
    return tally


def caught(seeds: Sequence[int]) -> Tally:
    """Each seed, and after it a trace, until the first breach: what is planted is hunted with all there is."""
    tally = NOTHING
    with _quiet() as errors:
        for number, seed in enumerate(seeds):
            title, schedule = varied(number)
            tally += _one(seed, errors)
            if not tally.found:
                tally += _of(schedule, errors, trace=title)
            if not tally.found and number < len(FAILED):
                tally += _of(FAILED[number], errors)
            if tally.found:
                break
    return tally


def hunt(seeds: range, *, processes: int) -> Iterator[Tally]:
    """Tallies of chunks, as they come. The seeds decide, not the order.

    The processes are forked with all imported, which is never looked at again for garbage.
    """
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    gc.collect()
    gc.freeze()
    with multiprocessing.get_context("fork").Pool(processes, initializer=gc.disable) as pool:
        yield from pool.imap_unordered(hunted, chunks)


def smallest(seed: int) -> tuple[Schedule, Breach]:
    """The seed's failure with as few events as can be, and what it breaks then."""
    schedule = draw(seed)
    breach = outcome(schedule)
    assert breach, f"seed {seed} holds"

    def fails(fewer: Schedule) -> bool:
        other = outcome(fewer)
        return other is not None and other.invariant == breach.invariant

    least = shrunk(schedule, fails)
    return least, outcome(least) or breach


def trace(schedule: Schedule) -> Sequence[str]:
    """What happened, in short lines: moves of the front, turns of the listener, what struck, what clients got."""
    with _quiet():
        world = World(schedule)
        world.run()
    lines = [
        f"{at:8.1f} listener to the {'control plane' if facing else 'night watch'}"
        for at, facing in world.service.facings
    ]
    lines += [
        f"{client.began_at:8.1f} {client.ask} -> {client.ending} by {client.tried[-6:]}"
        for client in world.people.clients
    ]
    lines += [f"         struck: {struck}" for struck in world.reach.struck]
    return sorted(lines)


def _one(seed: int, errors: list[str]) -> Tally:
    return _of(draw(seed), errors)


def _of(schedule: Schedule, errors: list[str], *, trace: str = "") -> Tally:
    errors.clear()
    world = World(schedule)
    breach = world.run()
    if errors and not breach:
        breach = Breach(world.timeline.now, "fault", errors[0])
    endings = Counter(client.ending or "open" for client in world.people.clients)
    found = [Found(schedule.seed, breach, trace)] if breach else []
    return Tally(1, endings, world.launched, world.watch.doubles, world.timeline.now, found)


class _Errors(logging.Handler):
    """Keeps what a process of ours logged with a traceback: it did not mean to raise that."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.told.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Nothing below ERROR is even made; of those, the ones that should not be are kept."""
    handler = _Errors()
    roots = [logging.getLogger(name) for name in ("control_plane", "diogenes")]
    before = [(root.level, root.propagate) for root in roots]
    for root in roots:
        root.addHandler(handler)
        root.setLevel(logging.ERROR)
        root.propagate = False
    try:
        yield handler.told
    finally:
        for root, (level, propagate) in zip(roots, before, strict=True):
            root.removeHandler(handler)
            root.setLevel(level)
            root.propagate = propagate
