"""`python -m rehearsal` with a node at work: it answers, and ends while somebody is being answered."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import psutil
import pytest

from rehearsal.ec2 import HOME

pytestmark = pytest.mark.desk


async def test_the_program_answers_and_leaves_nothing_though_a_stream_runs(tmp_path: Path) -> None:
    quick = {"PORT": "0", "BOOT_SECONDS": "0.3", "LOAD_SECONDS": "0.5"}
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **quick}
    rehearsal = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rehearsal", cwd=HOME, env=env, stdout=-1, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        words = await asyncio.wait_for(ready_line(rehearsal), 30)
        async with asyncio.timeout(45), streaming(words):
            below = psutil.Process(rehearsal.pid).children(recursive=True)
            commands = [" ".join(process.cmdline()) for process in below]
            rehearsal.send_signal(signal.SIGTERM)
            status = await rehearsal.wait()
    finally:
        if rehearsal.returncode is None:
            rehearsal.kill()
            await rehearsal.wait()
    assert any("rehearsal.engine" in command for command in commands)
    assert status == 0
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


async def ready_line(rehearsal: asyncio.subprocess.Process) -> Mapping[str, str]:
    assert rehearsal.stdout
    async for line in rehearsal.stdout:
        if line.startswith(b"DIOGENES_READY "):
            return dict(word.split("=", 1) for word in line.decode().split()[1:])
    raise AssertionError("it ended before it was ready")


@asynccontextmanager
async def streaming(words: Mapping[str, str]) -> AsyncIterator[None]:
    """A stream is well under way inside; nobody reads on."""
    async with openai.AsyncOpenAI(base_url=words["base_url"], api_key=words["api_key"]) as client:
        model = (await client.models.list()).data[0].id
        prompt = "Tell me more [[tokens=60 gap=0.05]]"
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        )
        async for chunk in stream:
            if any(choice.delta.content for choice in chunk.choices):
                break
        yield
