"""`python -m tests.soak --cycles 200`: asleep, awake, asleep, over and over, asked at every phase.

Each desk is a process of its own, with a real control plane, night watch, agents and load balancer. A round begins with
everything asleep: one question wakes it, and another comes at a random moment of the wake. The model is put to sleep,
and a third question comes at a random moment of a phase that is drawn: still awake, falling asleep, or asleep with a
control plane that ends; then all has to be asleep again. A cycle is a control plane that came and went. Whoever asked
must have a whole answer. The exit status is 1 for any flaw. Ctrl-C or SIGTERM ends it early, with a report of what was
seen until then; what a desk saw before it broke off counts in any case.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.desk.sleep import ENVIRONMENT, FRONT, asleep, front_state
from tests.desk.story import Answer, Story, opened, until

MODEL = "soak/model"
IDLE_S = 14  # more than a wake takes
PHASES = ("awake", "falling-asleep", "asleep")  # in which the last question of a round comes
PHASE_S = 4.0  # as long as each takes
SLEEP_LIMIT_S = 90.0
WAKE_S = 5.0  # from the first sign of a wake: nearly all come into it
WOKEN_LIMIT_S = 60.0


@dataclass
class Report:
    """What one desk saw."""

    cycles: int = 0
    asked: int = 0
    launched: int = 0
    phases: dict[str, int] = field(default_factory=dict)  # how many questions came in each, but the first of a round
    flaws: list[str] = field(default_factory=list)


async def soak(story: Story, cycles: int, rng: random.Random, report: Report) -> None:
    while report.cycles < cycles:
        told = len(story.told)
        asked = [asyncio.create_task(story.ask(MODEL, stream=rng.random() < 0.5))]
        await until(lambda: front_state(story) != "asleep", "the control plane is woken", WOKEN_LIMIT_S)
        await asyncio.sleep(rng.uniform(0.0, WAKE_S))
        asked.append(_asked(story, rng, report))
        await asyncio.gather(*asked)
        await story.scale(MODEL, 0)
        phase = rng.choice(PHASES)
        await until(lambda phase=phase: front_state(story) == phase, f"the control plane is {phase}", SLEEP_LIMIT_S)  # type: ignore[misc]
        await asyncio.sleep(rng.uniform(0.0, PHASE_S))
        asked.append(_asked(story, rng, report))
        answers = await asyncio.gather(*asked)
        report.asked += len(answers)
        cut = [f"question {number}: {answer}" for number, answer in enumerate(answers, start=1) if not answer.whole]
        report.flaws += [flaw + "".join(f"\n    {line}" for line in story.told[told:]) for flaw in cut]
        await story.scale(MODEL, 0)
        await asleep(story)
        report.cycles = story.told.count("the control plane is gone")
        report.launched = len(story.launched(MODEL))
        _say(report)


def _asked(story: Story, rng: random.Random, report: Report) -> asyncio.Task[Answer]:
    """A question at this moment, which is counted by its phase."""
    phase = front_state(story)
    report.phases[phase] = report.phases.get(phase, 0) + 1
    return asyncio.create_task(story.ask(MODEL, stream=rng.random() < 0.5))


def _say(report: Report) -> None:
    """A line for the parent: all that this desk saw so far."""
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    sys.stdout.flush()


def one_desk(cycles: int, seed: int) -> None:
    report = Report()
    try:
        with opened(MODEL, idle_seconds=IDLE_S, environment=ENVIRONMENT, front=FRONT) as story:
            asyncio.run(soak(story, cycles, random.Random(seed), report))
    except KeyboardInterrupt:  # told to end: no flaw, and the round is not counted
        pass
    except Exception as error:  # noqa: BLE001 - it does not fall asleep, something was left, or denied; or the desk broke
        report.flaws.append(f"{type(error).__name__}: {error}")
    _say(report)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--desks", type=int, default=4, help="side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    if told.one:
        one_desk(told.cycles, told.seed)
        return 0
    began = time.monotonic()
    shares = [told.cycles // told.desks + (number < told.cycles % told.desks) for number in range(told.desks)]
    desks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.soak", "--one", "--cycles", str(share), "--seed", str(told.seed + number)],
            stdout=subprocess.PIPE,
        )
        for number, share in enumerate(shares)
        if share
    ]
    reports = _followed(desks)
    flaws = [flaw for report in reports for flaw in report.flaws]
    phases: dict[str, int] = {}
    for report in reports:
        for phase, count in report.phases.items():
            phases[phase] = phases.get(phase, 0) + count
    cycles, asked = sum(report.cycles for report in reports), sum(report.asked for report in reports)
    minutes = (time.monotonic() - began) / 60
    sys.stdout.write(
        f"{cycles} cycles, {asked} questions, {sum(report.launched for report in reports)} nodes in {minutes:.1f} min\n"
        f"questions by phase: {phases}\nflaws: {len(flaws)}\n" + "".join(f"  {flaw}\n" for flaw in flaws)
    )
    return 1 if flaws or cycles < told.cycles else 0


def _followed(desks: Sequence[subprocess.Popen[bytes]]) -> list[Report]:
    """The last report of each desk, once all have ended or somebody is tired of it."""
    reports = [Report() for _ in desks]
    readers = [threading.Thread(target=_follow, args=(desks, reports, number)) for number in range(len(desks))]
    for reader in readers:
        reader.start()
    try:
        for reader in readers:
            reader.join()
    except KeyboardInterrupt:
        for desk in desks:  # by Ctrl-C they have heard it as well; twice would end them in the midst of their end
            if desk.poll() is None and not sys.stdin.isatty():
                desk.send_signal(signal.SIGINT)
        for reader in readers:
            reader.join()
    return reports


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _follow(desks: Sequence[subprocess.Popen[bytes]], reports: list[Report], number: int) -> None:
    desk = desks[number]
    assert desk.stdout
    for line in desk.stdout:
        reports[number] = Report(**json.loads(line))
        sys.stderr.write(f"desk {number}: {reports[number].cycles} cycles, {len(reports[number].flaws)} flaws\n")
    if desk.wait():
        reports[number].flaws.append(f"a desk ended with status {desk.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
