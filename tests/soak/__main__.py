"""`python -m tests.soak --cycles 200`: asleep, awake, asleep, over and over, asked at every phase.

Each desk is a process of its own, with a real control plane, night watch, agents and load balancer. A round begins
with everything asleep: one question wakes it, and another comes at a random moment of the wake. The model is put to
sleep, or left to idle out, and a third question is aimed at a phase: still awake, falling asleep, or asleep with a
control plane that ends; then all has to be asleep again, with no instance left. A cycle is a control plane that came
and went. Whoever asked must have a whole answer, and no reply on the way to it that only a retry made up for. The
exit status is 1 for any flaw, and each is told with its round's story. Ctrl-C or SIGTERM ends it early, with a report
of what was seen until then; what a desk saw before it broke off counts in any case.

One desk in five keeps AWS's order to the end: a task is told to end when the whole deregistration delay is over. At the
others it is as soon as nothing is open there, which is sooner.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from tests.soak.desk import WHOLE_DELAY
from tests.soak.report import Report, together, told
from tests.soak.signals import interruptible

DESKS = 5  # a few more than keep two cores busy: a cycle takes some 11 s of a core, and twice that of the clock


def main(arguments: Sequence[str], desk: Sequence[str] = (sys.executable, "-m", "tests.soak.desk")) -> int:
    """``desk`` is the command of one, but for its cycles and its seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--desks", type=int, default=DESKS, help="side by side")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    interruptible()
    began = time.monotonic()
    shares = [asked.cycles // asked.desks + (number < asked.cycles % asked.desks) for number in range(asked.desks)]
    commands = [
        [*desk, str(share), str(asked.seed + number), *([WHOLE_DELAY] if number % DESKS == 0 else [])]
        for number, share in enumerate(shares)
        if share
    ]
    whole = together(followed(commands))
    sys.stdout.write(told(whole, minutes=(time.monotonic() - began) / 60))
    return 1 if whole.flaws or whole.cycles < asked.cycles else 0


def followed(commands: Sequence[Sequence[str]]) -> Sequence[Report]:
    """The last report of each desk, once all have ended or somebody is tired of it."""
    # In a session of its own, a desk hears of Ctrl-C from here alone, and once.
    desks = [subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for command in commands]
    reports = [Report() for _ in desks]
    readers = [threading.Thread(target=_follow, args=(desks, reports, number)) for number in range(len(desks))]
    for reader in readers:
        reader.start()
    try:
        _ended(desks)
    except KeyboardInterrupt:
        for desk in desks:
            desk.send_signal(signal.SIGINT)  # which is nothing to one that has ended
        _ended(desks)
    for reader in readers:  # not before: a thread whose join was interrupted counts as ended in Python 3.11
        reader.join()
    return reports


def _ended(desks: Sequence[subprocess.Popen[bytes]]) -> None:
    for desk in desks:
        desk.wait()


def _follow(desks: Sequence[subprocess.Popen[bytes]], reports: list[Report], number: int) -> None:
    with desks[number] as desk:
        assert desk.stdout
        for line in desk.stdout:
            reports[number] = report = Report.parse(line)
            memory = f"{report.memory_mb[1]} MB"
            sys.stderr.write(f"desk {number}: {report.cycles} cycles, {len(report.flaws)} flaws, {memory}\n")
    if desk.returncode:
        reports[number].flaws.append(f"desk {number} ended with status {desk.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
