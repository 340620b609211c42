"""What the soak tells, also when somebody is tired of it. Its desks are played by a few lines."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.soak.__main__ import main
from tests.soak.report import Report, together

SEEN = Report(rounds=2, cycles=3, asked=6, launched=4, slowest_s=7.0, memory_mb=(400, 410), flaws=["one"])
SEEN.phases.update(["asleep", "asleep", "waking"])
SEEN.replies.update(["200", "307"])

_LINE = SEEN.line()
_PATIENT = f"""
import os, signal
print({_LINE!r}, flush=True)
try:
    os.kill(os.getppid(), signal.SIGTERM)
    signal.pause()
except KeyboardInterrupt:
    print({_LINE.replace('"cycles": 3', '"cycles": 5')!r}, flush=True)
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_whoever_is_tired_of_it_gets_what_was_seen_until_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cycles", "200", "--desks", "1"], desk=[sys.executable, "-c", _PATIENT]) == 1
    text = capsys.readouterr().out
    assert "5 cycles in 2 rounds, 4 nodes" in text
    assert "flaws: 1\n  one\n" in text


def test_a_desk_that_breaks_off_is_a_flaw_and_what_it_saw_counts(capsys: pytest.CaptureFixture[str]) -> None:
    broken = f"import sys; print({_LINE!r}); sys.exit(3)"
    assert main(["--cycles", "3", "--desks", "1"], desk=[sys.executable, "-c", broken]) == 1
    text = capsys.readouterr().out
    assert "3 cycles in 2 rounds" in text
    assert "flaws: 2\n  one\n  desk 0 ended with status 3\n" in text


def test_the_exit_status_is_0_when_all_cycles_were_there_without_a_flaw(capsys: pytest.CaptureFixture[str]) -> None:
    fine = Report(cycles=3, asked=6)
    command = [sys.executable, "-c", f"print({fine.line()!r})"]
    assert main(["--cycles", "6", "--desks", "2"], desk=command) == 0
    assert main(["--cycles", "7", "--desks", "2"], desk=command) == 1
    assert "flaws: 0" in capsys.readouterr().out


def test_reports_pass_as_lines_and_add_up() -> None:
    assert Report.parse(SEEN.line()) == SEEN
    whole = together([SEEN, Report(cycles=1, slowest_s=9.0, memory_mb=(420, 430), phases=Counter(waking=2)), SEEN])
    assert (whole.cycles, whole.asked, whole.slowest_s) == (7, 12, 9.0)
    assert whole.memory_mb == (420, 430)
    assert whole.phases == {"asleep": 4, "waking": 4}
    assert whole.replies == {"200": 2, "307": 2}
