"""What is told of a question that found no answer, and of the round that it came in."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rehearsal.desk import Desk
from tests.desk.story import Answer, NoEnd, Story, Tale, until
from tests.soak.report import Report
from tests.soak.rounds import Question, Rounds

_REPLY = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}]})
SENT_ON = b"HTTP/1.1 307 -\r\nlocation: /v1/chat/completions\r\ncontent-length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 -\r\nretry-after-ms: 1\r\ncontent-length: 0\r\n\r\n"
GOOD = f"HTTP/1.1 200 -\r\ncontent-type: application/json\r\ncontent-length: {len(_REPLY)}\r\n\r\n{_REPLY}".encode()


@asynccontextmanager
async def at_a_server(*replies: bytes, bound_s: float) -> AsyncIterator[Story]:
    """Whose replies these are, and which is silent then."""
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.decode().lower().splitlines() if line.startswith("content-length"))
            await reader.readexactly(int(length.split(":")[1]))
            if not left:
                await asyncio.Event().wait()
            writer.write(left.pop(0))

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Story(cast(Desk, SimpleNamespace(base_url=f"http://127.0.0.1:{port}/v1", api_key="key")), bound_s=bound_s)
    finally:
        server.close()


async def test_every_reply_on_the_way_is_seen() -> None:
    hops: list[int] = []
    async with at_a_server(SENT_ON, BUSY, GOOD, bound_s=60) as story:
        assert await story.ask("m", hops=hops) == Answer("Hello")
    assert hops == [307, 503, 200]


@pytest.mark.parametrize(("stream", "kind"), [(False, "an answer"), (True, "a stream")])
async def test_who_gets_no_end_says_what_was_asked(stream: bool, kind: str) -> None:
    hops: list[int] = []
    async with at_a_server(bound_s=0.5) as story:
        with pytest.raises(NoEnd, match=f"{kind} of m did not end in"):
            await story.ask("m", stream=stream, hops=hops)
    assert set(hops) <= {0}


async def test_what_does_not_happen_says_what_is_seen_instead() -> None:
    with pytest.raises(AssertionError, match=r"in 0 s: it sleeps. It is awake$"):
        await until(lambda: False, "it sleeps", 0.0, seen=lambda: "It is awake.")


@pytest.mark.parametrize("hops", [[307, 503, 200], [0, 200], [307, 502, 307, 200]])
def test_what_only_a_retry_made_up_for_is_a_flaw(hops: list[int]) -> None:
    question = Question(1, True, "asleep", 10.0, hops, Answer("Hello"))
    assert question.answer.whole
    assert not question.flawless
    assert Question(1, True, "asleep", 10.0, [307, 307, 200], Answer("Hello")).flawless


def test_a_flaw_comes_with_its_rounds_story() -> None:
    times = iter((10.0, 12.5))
    story: Any = SimpleNamespace(tale=Tale(clock=lambda: next(times)))
    rounds = Rounds(story, Report(rounds=4), random.Random(0), lambda: None)
    for line in ("question 1 comes: asleep", "the control plane starts"):
        story.tale.tell(line)
    question = Question(1, True, "asleep", 10.0, [307, 0], Answer("He", "no end", 0, message="nothing came"), 60.0)
    lines: Sequence[str] = rounds.flaw(str(question)).splitlines()
    first = "round 5: question 1 (stream, asleep): no end 0 nothing came after 'He', after 60.0 s; replies 307, 0"
    assert [line.strip() for line in lines] == [
        first,
        "0.0 s  question 1 comes: asleep",
        "2.5 s  the control plane starts",
    ]
