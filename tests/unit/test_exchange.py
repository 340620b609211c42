"""How one client is kept alive and told of failures, by what it says of itself; time is stepped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from control_plane.dialect import CHAT, MESSAGES, Dialect
from control_plane.errors import EngineLost, RequestError
from control_plane.exchange import Aborted, Exchange, Manner, Patience, error_headers

PATIENCE = Patience(silent_hold_s=25.0, keepalive_s=10.0, chunk_keepalive_s=40.0, edge_read_timeout_s=60.0)
GONE = EngineLost("gone", retry_after_s=3, should_retry=True)


class Client:
    """An exchange whose time is stepped, and everything that was sent to its client."""

    def __init__(self, manner: Manner, dialect: Dialect = CHAT) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.now = 0.0
        self.exchange = Exchange(
            self._send, dialect=dialect, model="m", manner=manner, patience=PATIENCE, now=0.0, request_id="req_1"
        )

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self.reads.wait()
        self.sent.append(message)

    async def step(self, seconds: int, *, launched: bool = False) -> None:
        """A beat every second."""
        for _ in range(seconds):
            self.now += 1
            if self.exchange.due(self.now, launched=launched):
                await self.exchange.beat(self.now, "phase=load")

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent if message["type"] == "http.response.body")

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message.get("body")]

    @property
    def head(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def ended(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


# -- who it is


@pytest.mark.parametrize(
    ("headers", "attempt", "manner"),
    [
        ({}, 0, Manner.PAD_BODY),
        ({b"user-agent": b"curl/8.5"}, 0, Manner.PAD_BODY),
        ({b"x-stainless-lang": b"python"}, 0, Manner.PAD_ABORT),
        ({b"user-agent": b"ai/5.0 provider-utils/3"}, 0, Manner.PAD_ABORT),
        ({b"x-stainless-lang": b"js"}, 0, Manner.HOLD),
        ({b"x-stainless-lang": b"js"}, 1, Manner.HOLD),
        ({b"x-stainless-lang": b"js"}, 2, Manner.PAD_ABORT),
    ],
)
def test_a_clients_manner_follows_from_its_headers(headers: dict[bytes, bytes], attempt: int, manner: Manner) -> None:
    assert Manner.of(headers, stream=False, attempt=attempt) is manner
    assert Manner.of(headers, stream=True, attempt=attempt) is Manner.STREAM


# -- signs of life


async def test_nothing_is_sent_before_the_hold_is_over() -> None:
    for manner in Manner:
        client = Client(manner)
        await client.step(24)
        assert client.sent == []
        assert not client.exchange.started


async def test_a_stream_begins_as_soon_as_an_instance_is_there() -> None:
    client = Client(Manner.STREAM)
    await client.step(3)
    await client.step(1, launched=True)
    assert client.bodies == [b": diogenes phase=load\n\n"]
    assert client.head[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert client.head[b"x-accel-buffering"] == b"no"
    assert client.head[b"x-request-id"] == b"req_1"


async def test_a_stream_gets_a_comment_every_ten_seconds_and_a_chunk_every_forty() -> None:
    client = Client(Manner.STREAM)
    await client.step(85, launched=True)  # the first beat starts it
    assert [b"data:" in body for body in client.bodies] == [False, False, False, False, True, False, False, False, True]
    assert all(body.startswith(b": diogenes phase=load\n\n") for body in client.bodies)
    chunk = json.loads(client.bodies[4].split(b"data: ")[1])
    assert (chunk["model"], chunk["choices"][0]["delta"]) == ("m", {"content": ""})


async def test_an_anthropic_stream_gets_pings() -> None:
    client = Client(Manner.STREAM, MESSAGES)
    await client.step(45, launched=True)
    assert client.bodies[-1].endswith(b'event: ping\ndata: {"type": "ping"}\n\n')


@pytest.mark.parametrize("manner", [Manner.PAD_ABORT, Manner.PAD_BODY])
async def test_an_answer_is_padded_with_newlines_after_the_hold(manner: Manner) -> None:
    client = Client(manner)
    await client.step(25, launched=True)
    assert (client.body, client.head[b"content-type"]) == (b"\n", b"application/json")
    await client.step(20)
    assert client.body == b"\n\n\n"


async def test_a_client_on_hold_hears_nothing_until_an_engine_works_for_it() -> None:
    client = Client(Manner.HOLD)
    await client.step(54)
    assert client.sent == []
    client.exchange.working = True
    await client.step(1)
    assert client.body == b"\n"


async def test_comments_go_on_between_the_engines_own_bytes() -> None:
    client = Client(Manner.STREAM)
    await client.exchange.head(200, [])
    await client.exchange.pass_on(b"data: {}\n\n", client.now)
    await client.step(60)
    assert client.bodies == [b"data: {}\n\n"] + [b": diogenes phase=load\n\n"] * 6


async def test_a_whole_answer_that_flows_is_not_padded() -> None:
    client = Client(Manner.PAD_BODY)
    await client.exchange.head(200, [])
    await client.exchange.pass_on(b'{"a":', client.now)
    await client.step(60)
    assert client.body == b'{"a":'


async def test_nothing_is_sent_after_the_end() -> None:
    client = Client(Manner.STREAM)
    await client.exchange.head(200, [])
    await client.exchange.end()
    await client.step(60, launched=True)
    assert client.ended


async def test_a_client_that_does_not_read_gets_no_signs_of_life() -> None:
    client = Client(Manner.STREAM)
    await client.exchange.head(200, [])
    client.reads.clear()
    passing = asyncio.create_task(client.exchange.pass_on(b"data: {}\n\n", 0.0))
    await asyncio.sleep(0)
    await client.step(60)  # would wait here for ever
    client.reads.set()
    await passing
    assert client.bodies == [b"data: {}\n\n"]


# -- the answer


async def test_the_engines_head_is_passed_with_ours() -> None:
    client = Client(Manner.PAD_BODY)
    client.exchange.add_header(b"x-diogenes-node", b"i-1")
    assert await client.exchange.head(200, [(b"content-length", b"2")])
    assert client.sent[0]["status"] == 200
    assert (client.head[b"content-length"], client.head[b"x-diogenes-node"]) == (b"2", b"i-1")
    assert client.head[b"cache-control"] == b"no-store"


async def test_a_head_after_the_200_can_only_be_a_200() -> None:
    client = Client(Manner.PAD_BODY)
    await client.step(30)
    assert await client.exchange.head(200, [])
    assert not await client.exchange.head(400, [])
    assert sum(message["type"] == "http.response.start" for message in client.sent) == 1


async def test_no_bytes_are_no_message() -> None:
    client = Client(Manner.STREAM)
    await client.exchange.pass_on(b"", 0.0)
    assert client.sent == []


# -- failures


@pytest.mark.parametrize("manner", list(Manner))
async def test_before_the_200_a_failure_has_its_true_status(manner: Manner) -> None:
    client = Client(manner)
    await client.exchange.fail(GONE)
    assert (client.sent[0]["status"], client.ended) == (502, True)
    assert (client.head[b"retry-after"], client.head[b"x-should-retry"]) == (b"3", b"true")
    assert client.head[b"content-length"] == str(len(client.body)).encode()
    assert json.loads(client.body)["error"]["code"] == "engine_lost"


async def test_after_the_200_a_stream_is_told_in_an_event() -> None:
    client = Client(Manner.STREAM)
    await client.step(25)
    await client.exchange.fail(GONE)
    assert client.ended
    assert client.bodies[-1].startswith(b'data: {"error":{"message":"gone"')
    assert client.bodies[-1].endswith(b"\n\ndata: [DONE]\n\n")


async def test_after_white_space_a_person_reads_the_error_as_json() -> None:
    client = Client(Manner.PAD_BODY)
    await client.step(40)
    await client.exchange.fail(GONE)
    assert client.ended
    assert json.loads(client.body)["error"]["message"] == "gone"


@pytest.mark.parametrize("manner", [Manner.PAD_ABORT, Manner.HOLD])
async def test_after_white_space_an_sdk_is_cut_off(manner: Manner) -> None:
    client = Client(manner)
    client.exchange.working = True
    await client.step(40)
    with pytest.raises(Aborted):
        await client.exchange.fail(GONE)
    assert not client.ended


async def test_half_an_answer_is_never_ended_with_an_error_as_json() -> None:
    client = Client(Manner.PAD_BODY)
    await client.exchange.head(200, [])
    await client.exchange.pass_on(b'{"choices": [', 0.0)
    with pytest.raises(Aborted):
        await client.exchange.fail(GONE)
    assert not client.ended


def test_headers_say_whether_and_when_to_come_back() -> None:
    assert error_headers(RequestError("x")) == []
    assert error_headers(RequestError("x", should_retry=False)) == [(b"x-should-retry", b"false")]
