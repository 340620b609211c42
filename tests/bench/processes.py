"""A process and its children, as the kernel accounts for them: CPU time, memory, where it runs, how it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOAD_CPU = 0
PROXY_CPU = 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_PASSED_ON = ("PATH", "HOME", "LANG")
"""What a measured process inherits: nobody's proxy or AWS settings."""


@dataclass(frozen=True)
class Process:
    """One started command with everything that it starts itself."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pids(self) -> list[int]:
        return _tree(self.popen.pid)

    def cpu_ns(self) -> int:
        """CPU time of all live threads, to the nanosecond: differences of it are exact over a window."""
        return sum(_thread_cpu_ns(pid) for pid in self.pids)

    def cpu_since_start_s(self) -> float:
        """CPU time since exec, with threads and children that are gone already; to a clock tick (10 ms)."""
        return sum(_lifetime_cpu_ticks(pid) for pid in self.pids) / _TICKS_PER_S

    def rss_kb(self) -> int:
        return sum(_rss_kb(pid) for pid in self.pids)

    def stop(self) -> None:
        """Ends the process and its children, by force where they do not go by themselves."""
        pids = self.pids
        self.popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(10)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.popen.wait()


def start(command: Sequence[str], *, cpu: int, log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Starts the command on that CPU (where there is more than one), its output in ``log``."""
    inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [*_pinned(cpu), *command],
            env={**inherited, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Process(popen=popen, log=log)


def _pinned(cpu: int) -> Sequence[str]:
    """``taskset`` execs the command, so the process keeps the id that it was started with."""
    return ("taskset", "-c", str(cpu)) if pinning() else ()


def pinning() -> bool:
    return (os.cpu_count() or 1) > 1


@contextmanager
def undisturbed(*processes: Process) -> Iterator[None]:
    """Real-time scheduling for these while measuring latency, so that other jobs of the machine do not show in it.

    Needs root; without it, or where the kernel refuses, the measure goes on as it is.
    """
    pids = [pid for process in processes for pid in process.pids]
    for pid in pids:
        _schedule(pid, os.SCHED_RR, 2)
    try:
        yield
    finally:
        for pid in pids:
            _schedule(pid, os.SCHED_OTHER, 0)


def real_time() -> bool:
    """Does the kernel let this process be real-time?"""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def _schedule(pid: int, policy: int, priority: int) -> None:
    for thread in _threads(pid):
        with suppress(OSError):
            os.sched_setscheduler(thread, policy, os.sched_param(priority))


def _tree(pid: int) -> list[int]:
    pids = [pid]
    for thread in _threads(pid):
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
            pids.extend(member for child in children.split() for member in _tree(int(child)))
    return pids


def _threads(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def _thread_cpu_ns(pid: int) -> int:
    total = 0
    for thread in _threads(pid):
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text(encoding="ascii").split()[0])
    return total


def _lifetime_cpu_ticks(pid: int) -> int:
    with suppress(OSError):
        # Everything before the last ")" is the command's name; utime, stime, cutime, cstime are fields 14 to 17.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15])
    return 0


def _rss_kb(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0
