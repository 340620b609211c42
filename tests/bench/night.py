"""What a wake waits for before any of our code runs: the night watch's process, from nothing to its handler."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.measure import Values

_PROGRAM = """
import resource, sys
{what}
used = resource.getrusage(resource.RUSAGE_SELF)
(most,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
sys.stdout.write(f"{{used.ru_utime + used.ru_stime}} {{most.split()[1]}}")
"""
"""Not `ru_maxrss`: that begins with the size of whoever started the process."""
_LIMIT_S = 60.0


def imported() -> Values:
    """CPU and memory of one import, and its CPU against that of asyncio alone. Raises RuntimeError."""
    bare_s, _ = _spent("import asyncio")
    night_s, kib = _spent("import control_plane.night")
    return {"night_import_cpu_s": night_s, "night_import_ratio": night_s / bare_s, "night_import_mb": kib / 1024}


def _spent(what: str) -> tuple[float, float]:
    command = [sys.executable, "-c", _PROGRAM.format(what=what)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode:
        raise RuntimeError(done.stderr[-300:])
    cpu_s, kib = done.stdout.split()
    return float(cpu_s), float(kib)
