"""`python -m rehearsal` as a whole: it ends while somebody is being answered, and outlives its control plane."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionChunk

from rehearsal.ec2 import HOME
from tests.desk.story import BOUND_S

pytestmark = pytest.mark.desk


LONG = "Tell me more [[tokens=600 gap=0.05]]"
STOP_LIMIT_S = 13.0  # 5 for the streams, 3 for the control plane's last looks at the front


async def test_a_stop_tells_a_long_stream_why_it_ends_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as (rehearsal, words), client_of(words) as client, asyncio.timeout(45):
        stream = await begun(client, LONG)
        below = psutil.Process(rehearsal.pid).children(recursive=True)
        commands = [" ".join(process.cmdline()) for process in below]
        told_at = time.monotonic()
        rehearsal.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError) as error:
            async for _ in stream:
                pass
        status = await rehearsal.wait()
        assert time.monotonic() - told_at < STOP_LIMIT_S
    assert error.value.code == "restarting"
    assert any("rehearsal.engine" in command for command in commands)
    assert status == 0
    assert_gone(below)


async def test_a_killed_control_plane_comes_back_with_the_same_address_and_key(tmp_path: Path) -> None:
    async with running(tmp_path) as (rehearsal, words), client_of(words) as client, asyncio.timeout(60):
        assert control_planes(rehearsal) == []  # everything begins asleep
        stream = await begun(client, LONG)
        (killed,) = control_planes(rehearsal)
        killed.kill()
        killed.wait(5)
        with pytest.raises((openai.APIError, httpx.TransportError)):
            async for _ in stream:
                pass
        assert await answers(client)
        await begun(client, "Hello")
        (again,) = control_planes(rehearsal)
        assert again.pid != killed.pid
        below = psutil.Process(rehearsal.pid).children(recursive=True)
        rehearsal.send_signal(signal.SIGTERM)
        assert await rehearsal.wait() == 0
    assert_gone(below)


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, Mapping[str, str]]]:
    """The program, ready, and the words of its line; killed if it still runs in the end."""
    quick = {"PORT": "0", "BOOT_SECONDS": "0.3", "LOAD_SECONDS": "0.5"}
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), **quick}
    rehearsal = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rehearsal", cwd=HOME, env=env, stdout=-1, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield rehearsal, await asyncio.wait_for(ready_line(rehearsal), BOUND_S)
    finally:
        if rehearsal.returncode is None:
            rehearsal.kill()
            await rehearsal.wait()


async def ready_line(rehearsal: asyncio.subprocess.Process) -> Mapping[str, str]:
    assert rehearsal.stdout
    async for line in rehearsal.stdout:
        if line.startswith(b"DIOGENES_READY "):
            return dict(word.split("=", 1) for word in line.decode().split()[1:])
    raise AssertionError("it ended before it was ready")


def client_of(words: Mapping[str, str]) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=words["base_url"], api_key=words["api_key"])


async def begun(client: openai.AsyncOpenAI, prompt: str) -> openai.AsyncStream[ChatCompletionChunk]:
    """A stream that is well under way."""
    model = (await client.models.list()).data[0].id
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    async for chunk in stream:
        if any(choice.delta.content for choice in chunk.choices):
            break
    return stream


async def answers(client: openai.AsyncOpenAI) -> bool:
    """Returns once somebody answers. Raises openai.APIStatusError for an answer that is a refusal."""
    while True:
        try:
            return bool((await client.models.list()).data)
        except (openai.APIConnectionError, openai.InternalServerError):
            await asyncio.sleep(0.05)


def control_planes(rehearsal: asyncio.subprocess.Process) -> Sequence[psutil.Process]:
    """The processes that serve, without the keepers above them."""
    below = psutil.Process(rehearsal.pid).children(recursive=True)
    return [process for process in below if process.cmdline()[1:] == ["-m", "control_plane", "serve"]]


def assert_gone(processes: Sequence[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
