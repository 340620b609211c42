"""`python -m tests.soak.desk CYCLES SEED`: one desk of the soak. It tells its parent after each round what it saw."""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace

from tests.desk.sleep import ENVIRONMENT, FRONT
from tests.desk.story import opened
from tests.soak.report import Report
from tests.soak.rounds import MODEL, Rounds
from tests.soak.signals import interruptible

IDLE_S = 14  # more than a wake takes
JANITOR_S = 10.0  # it looks two or three times a cycle, and each look costs CPU
ANSWER_LIMIT_S = 120.0  # far more than one takes: nobody judges here how fast the machine is


def main(cycles: int, seed: int) -> None:
    """A desk that broke off, or was told to end, tells what it saw until then."""
    report = Report()
    rounds: Rounds | None = None
    try:
        front = replace(FRONT, janitor_every_s=JANITOR_S)
        with opened(MODEL, idle_seconds=IDLE_S, environment=ENVIRONMENT, front=front, bound_s=ANSWER_LIMIT_S) as story:
            rounds = Rounds(story, report, random.Random(seed), lambda: _say(report))
            asyncio.run(rounds.run(cycles))
            rounds.doing = "the desk closes"
    except KeyboardInterrupt:  # told to end: no flaw, and the round is not counted
        pass
    except Exception as error:  # noqa: BLE001 - it does not fall asleep, something was left, or denied; or the desk broke
        text = f"{type(error).__name__}: {error}"
        report.flaws.append(rounds.flaw(f"{rounds.doing}: {text}") if rounds else f"the desk does not open: {text}")
    _say(report)


def _say(report: Report) -> None:
    sys.stdout.write(report.line() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    interruptible()
    main(*map(int, sys.argv[1:]))
