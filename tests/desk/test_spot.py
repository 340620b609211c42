"""AWS takes a Spot instance back under a stream: the node's agent learns it, and another node goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.desk.story import Story, opened

pytestmark = pytest.mark.desk

MODEL = "spot/stream"
TOKENS = 150
NOTICE_S = 23.0  # the rest is handed over 20 s before the end


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with opened({"name": MODEL, "market": "spot-then-on-demand"}, idle_seconds=5) as story:
        yield story


async def events(story: Story, begun: asyncio.Event) -> list[dict[str, Any]]:
    """Of one streamed answer, which takes 15 s; its end mark is checked."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Tell me [[tokens={TOKENS} gap=0.1]]"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    lines = []
    async with story.http() as http, http.stream("POST", "v1/chat/completions", json=body) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                lines.append(line.removeprefix("data: "))
                begun.set()
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_stream_that_aws_cuts_off_goes_on_elsewhere_as_one(story: Story) -> None:
    begun = asyncio.Event()
    asking = asyncio.create_task(events(story, begun))
    await asyncio.wait_for(begun.wait(), 30)
    first = await story.node(MODEL)
    story.desk.add_fault(spot="interruption", model=MODEL, notice_s=NOTICE_S)
    told = await asking
    whole = await story.ask(MODEL, f"Tell me [[tokens={TOKENS} gap=0]]")
    said = [event["choices"][0] for event in told if event["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in said) == whole.text
    assert len({event["id"] for event in told}) == 1
    assert sum("role" in choice["delta"] for choice in said) == 1
    assert told[-1]["usage"]["completion_tokens"] == TOKENS
    assert len(story.launched(MODEL)) == 2
    assert any(f"{first} is told of a Spot interruption" in line for line in story.told)
