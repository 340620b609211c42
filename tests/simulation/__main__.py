"""``python -m tests.simulation``: many schedules, one seed, or the planted bugs.

--schedules N --seed S   the seeds from S on; what fails is shrunk and shown
--show SEED              one seed, shrunk if it fails
--mutants                each planted bug, and the invariant that catches it
--mutant NAME            one of them, in this process
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

from tests.simulation.mutants import MUTANTS, mutant
from tests.simulation.planting import Mutant, plant
from tests.simulation.thaw import thaw

SHOWN = 5
MUTANT_LIMIT_S = 600


def main() -> int:
    """0 when all holds, and every planted bug is caught that should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", type=int)
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--mutant")
    options = parser.parse_args()
    thaw()
    if options.mutants:
        return all_mutants(options.schedules, options.seed, processes=options.processes)
    if options.mutant:
        return one_mutant(mutant(options.mutant), options.schedules, options.seed)
    if options.show is not None:
        return show(options.show)
    return many(range(options.seed, options.seed + options.schedules), processes=options.processes)


def many(seeds: range, *, processes: int) -> int:
    from tests.simulation.hunt import NOTHING, hunt

    began, total = time.monotonic(), NOTHING
    for tally in hunt(seeds, processes=processes):
        total += tally
        for found in tally.found:
            _say(f"seed {found.seed}: {str(found.breach)[:200]}")
    wall_s = time.monotonic() - began
    _say(
        f"{total.schedules} schedules in {wall_s:.0f} s ({total.schedules / wall_s:.0f}/s, {processes} processes), "
        f"{total.virtual_s / 86400:.0f} virtual days, {total.launches} launches, "
        f"{total.doubles} doubled at hand-overs, {len(total.found)} failed"
    )
    _say(", ".join(f"{ending}: {count}" for ending, count in total.endings.most_common()))
    for found in sorted(total.found, key=lambda found: found.seed)[:SHOWN]:
        show(found.seed)
    return 1 if total.found else 0


def show(seed: int) -> int:
    from tests.simulation.hunt import outcome, smallest, trace
    from tests.simulation.schedule import draw

    if outcome(draw(seed)) is None:
        _say(f"seed {seed} holds")
        return 0
    schedule, breach = smallest(seed)
    _say(f"seed {seed}, shrunk: {str(breach)[:300]}\n  {schedule}")
    for line in trace(schedule):
        _say(f"  {line}")
    return 1


def one_mutant(planted: Mutant, schedules: int, seed: int) -> int:
    """One line of JSON: after how many schedules which invariant caught it, if any."""
    plant(planted)
    from tests.simulation.hunt import caught

    tally = caught(range(seed, seed + schedules))
    told = {"name": planted.name, "schedules": tally.schedules}
    for found in tally.found:
        by = found.trace or f"seed {found.seed}"
        told |= {"by": by, "invariant": found.breach.invariant, "told": found.breach.told}
    _say(json.dumps(told))
    return 0


def all_mutants(schedules: int, seed: int, *, processes: int) -> int:
    """A line for each; 1 when one is not caught, or not by what should."""
    missed = 0
    waiting, running = list(MUTANTS), dict[str, subprocess.Popen[str]]()
    while waiting or running:
        while waiting and len(running) < processes:
            planted = waiting.pop(0)
            running[planted.name] = begun(planted, schedules, seed)
        name, process = next(iter(running.items()))
        out, _ = process.communicate(timeout=MUTANT_LIMIT_S)
        del running[name]
        missed += not reported(mutant(name), out)
    return 1 if missed else 0


def begun(planted: Mutant, schedules: int, seed: int) -> subprocess.Popen[str]:
    """In a process of its own: a bug is planted by importing it."""
    command = [sys.executable, "-m", "tests.simulation", "--mutant", planted.name]
    command += ["--schedules", str(schedules), "--seed", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def reported(planted: Mutant, out: str) -> bool:
    """Print what came of it; was it caught as it should be?"""
    lines = out.strip().splitlines()
    found = json.loads(lines[-1]) if lines else {"schedules": 0, "invariant": "nothing ran", "by": "no one"}
    invariant = found.get("invariant", "")
    good = invariant in planted.expected
    verdict = f"{invariant}, by {found['by']}" if invariant else "not caught"
    _say(f"{'ok  ' if good else 'MISS'} {planted.name}: {verdict}; {found['schedules']} schedules")
    return good


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
