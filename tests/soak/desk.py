"""`python -m tests.soak.desk CYCLES SEED [--whole-delay]`: one desk of the soak.

It tells its parent after each round what it saw.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping
from dataclasses import replace

from rehearsal.desk import FrontOptions
from tests.desk.sleep import ENVIRONMENT, FRONT
from tests.desk.story import opened
from tests.soak.report import Report
from tests.soak.rounds import MODEL, Rounds
from tests.soak.signals import interruptible

IDLE_S = 14  # more than a wake takes
JANITOR_S = 10.0  # it looks two or three times a cycle, and each look costs CPU
ANSWER_LIMIT_S = 120.0  # far more than one takes: nobody judges here how fast the machine is


WHOLE_DELAY = "--whole-delay"  # a task is told to end when all of its deregistration delay is over, and not before
WHOLE_DELAY_S, FAREWELL_S = 8.0, 3.0  # a cycle takes so much longer there


def main(cycles: int, seed: int, *, whole_delay: bool = False) -> None:
    """A desk that broke off, or was told to end, tells what it saw until then."""
    report = Report()
    rounds: Rounds | None = None
    try:
        front, environment = _delayed() if whole_delay else (FRONT, ENVIRONMENT)
        front = replace(front, janitor_every_s=JANITOR_S)
        with opened(MODEL, idle_seconds=IDLE_S, environment=environment, front=front, bound_s=ANSWER_LIMIT_S) as story:
            rounds = Rounds(story, report, random.Random(seed), lambda: _say(report))
            asyncio.run(rounds.run(cycles))
            rounds.doing = "the desk closes"
    except KeyboardInterrupt:  # told to end: no flaw, and the round is not counted
        pass
    except Exception as error:  # noqa: BLE001 - it does not fall asleep, something was left, or denied; or the desk broke
        text = f"{type(error).__name__}: {error}"
        report.flaws.append(rounds.flaw(f"{rounds.doing}: {text}") if rounds else f"the desk does not open: {text}")
    _say(report)


def _delayed() -> tuple[FrontOptions, Mapping[str, str]]:
    told = {"DIOGENES_DEREGISTRATION_DELAY_S": f"{WHOLE_DELAY_S}", "DIOGENES_FAREWELL_S": f"{FAREWELL_S}"}
    return replace(FRONT, early=False, deregistration_s=WHOLE_DELAY_S), {**ENVIRONMENT, **told}


def _say(report: Report) -> None:
    sys.stdout.write(report.line() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    interruptible()
    told_cycles, told_seed, *told_options = sys.argv[1:]
    main(int(told_cycles), int(told_seed), whole_delay=WHOLE_DELAY in told_options)
