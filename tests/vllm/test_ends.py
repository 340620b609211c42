"""How work of the real vLLM ends before it is done: by its client, by a death, or in peace."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from contextlib import suppress
from typing import Any

import orjson
import psutil
import pytest

from tests.desk.story import until
from tests.vllm.serving import MODEL, Serving

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ASKED = [{"role": "user", "content": "hello"}]
ENDLESS = 8000  # tokens: some 20 s of work


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_client_that_hangs_up_frees_the_engine(serving: Serving, stream: bool) -> None:
    before = await asyncio.to_thread(serving.generated)
    with socket.create_connection(("127.0.0.1", serving.story.desk.port)) as client:
        client.sendall(raw_request(serving, {"messages": ASKED, "max_tokens": ENDLESS, "stream": stream}))
        await until(lambda: load(serving) == 1 and serving.generated() > before, "the engine is at work")
    await until(lambda: load(serving) == 0, "the engine is free")
    assert await asyncio.to_thread(serving.generated) - before < ENDLESS


async def test_an_engine_killed_in_mid_stream_is_told_and_a_fresh_node_answers(serving: Serving) -> None:
    first = serving.node
    begun = asyncio.Event()
    streaming = asyncio.create_task(ask_long(serving, begun))
    await asyncio.wait_for(begun.wait(), 60)
    engine_core(serving, first).kill()  # as the kernel does when memory runs out; its HTTP server lives on a moment
    events = await streaming
    (error,) = [event["error"] for event in events if "error" in event]
    # Its agent tells why; on a slow machine a probe may be first, or nobody in time, and then its own words stand.
    told = error.get("failure", {}).get("code", error["code"])
    assert told in ("engine_crashed", "engine_lost", "engine_error")
    assert "error" in events[-1]
    assert (await serving.story.ask(MODEL)).whole
    assert serving.node != first
    assert len(serving.story.launched(MODEL)) == 2
    await until(lambda: len(serving.story.alive(MODEL)) == 1, "the dead engine's machine is gone")


async def test_a_machine_that_is_shut_down_finishes_its_stream(serving: Serving) -> None:
    """SIGTERM to the agent, as its service manager sends it when the instance goes down."""
    node, begun = serving.node, asyncio.Event()
    streaming = asyncio.create_task(ask_long(serving, begun, max_tokens=1500))
    await asyncio.wait_for(begun.wait(), 60)
    serving.story.desk.machines.tree(node).signal(signal.SIGTERM)
    events = await streaming
    assert [event for event in events if "error" in event] == []
    assert events[-1]["usage"]["completion_tokens"] == 1500
    await until(lambda: not serving.story.alive(MODEL), "the machine is gone", 60)


async def ask_long(serving: Serving, begun: asyncio.Event, *, max_tokens: int = ENDLESS) -> list[dict[str, Any]]:
    """The events of a long stream; ``begun`` is set by its first token."""
    body = {"model": MODEL, "messages": ASKED, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    events = []
    async with serving.story.http() as http, http.stream("POST", "v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                events.append(orjson.loads(line.removeprefix("data: ")))
                begun.set()
    return events


def raw_request(serving: Serving, body: dict[str, Any]) -> bytes:
    content = orjson.dumps({"model": MODEL, "temperature": 0, **body})
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: diogenes",
        f"authorization: Bearer {serving.story.desk.api_key}",
        "content-type: application/json",
        f"content-length: {len(content)}",
    )
    return "\r\n".join([*head, "", ""]).encode() + content


def load(serving: Serving) -> int:
    found = serving.load()
    assert found
    return found.running + found.waiting


def engine_core(serving: Serving, node: str) -> psutil.Process:
    """The process that holds the model, of those that a vLLM is made of."""
    below = psutil.Process(serving.story.desk.machines.tree(node).leader).children(recursive=True)
    (core,) = (process for process in below if re.search("EngineCore", _title(process)))
    return core


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""
