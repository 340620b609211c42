"""What the night watch's process begins with: nobody waits for modules that a wake does not need."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = r"""
import sys
import control_plane.night
loaded = set(sys.modules)
import asyncio, json, pathlib, re
from tests.night.test_night import ASK, asleep, call
async def ask():
    async with asleep() as (world, key):
        return (await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)).status
status = asyncio.run(ask())
kib = int(re.search("VmHWM: *(.*) kB", pathlib.Path("/proc/self/status").read_text().replace("\t", " ")).group(1))
sys.stdout.write(json.dumps({"loaded": sorted(loaded), "status": status, "kib": kib}))
"""
NOT_FOR_A_WAKE = {"fastapi", "uvicorn", "authlib", "joserfc", "cryptography", "pulumi", "control_plane.doctor"}
# By /proc: what getrusage tells begins with the size of whoever made the process, a test run of any size.
LIMIT_KIB = 256 * 1024  # half of what the function has


def test_a_wake_needs_little_memory_and_no_web_framework() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=100)
    told = json.loads(done.stdout)
    assert told["status"] == 307
    assert NOT_FOR_A_WAKE.isdisjoint(told["loaded"])
    assert told["kib"] < LIMIT_KIB
