"""The load balancer: who gets a request, what passes through it, and what becomes of what breaks off."""

from __future__ import annotations

import asyncio
import base64
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from rehearsal import alb
from rehearsal.balancer import Balancer, Behind, Turns
from rehearsal.ecs import reserve
from rehearsal.functions import FunctionFailed, Throttled

NIGHT, DAY = {"night": 1, "day": 0}, {"night": 0, "day": 1}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Night:
    """Remembers what it was asked, and replies what the test wants."""

    def __init__(self, result: Any = None) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.result = result or {"statusCode": 200, "multiValueHeaders": {"x-by": ["night"]}, "body": "moon"}
        self.release = threading.Event()
        self.release.set()

    def invoke(self, event: Any) -> Any:
        self.events.append(event)
        self.release.wait(10)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@asynccontextmanager
async def balanced(
    weights: Mapping[str, int], night: Night, targets: Sequence[str] = (), *, idle_timeout_s: float = 5.0
) -> AsyncIterator[tuple[httpx.AsyncClient, Balancer]]:
    turns = Turns(lambda: weights, clock=lambda: 0.0, propagation_s=0.0, rng=random.Random(1))
    with reserve(0) as held:
        port = held.getsockname()[1]
        balancer = Balancer(port, turns, Behind("night", night, lambda: targets), idle_timeout_s=idle_timeout_s)
        await asyncio.to_thread(balancer.__enter__)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
                yield client, balancer
        finally:
            await asyncio.to_thread(balancer.__exit__, None, None, None)


@asynccontextmanager
async def target(serve: Serve) -> AsyncIterator[str]:
    """A control plane that does one thing with each connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await serve(reader, writer)
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# -- whose turn it is


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_turn_arrives_within_its_time_and_not_at_once() -> None:
    clock, weights = Clock(), dict(NIGHT)
    turns = Turns(lambda: dict(weights), clock=clock, propagation_s=10.0, rng=random.Random(3))
    weights.update(DAY)
    turns.look()
    assert {turns.group() for _ in range(50)} == {"night"}
    clock.now += 5
    turns.look()
    assert {turns.group() for _ in range(50)} == {"night", "day"}
    clock.now += 5
    turns.look()
    assert {turns.group() for _ in range(50)} == {"day"}


# -- the night watch


async def test_the_night_watch_gets_what_a_load_balancer_says_and_its_whole_reply_is_passed_on() -> None:
    night = Night()
    async with balanced(NIGHT, night) as (client, _):
        answer = await client.post("/v1/chat/completions?a=1%202&b=", json={"model": "m"}, headers={"x-key": "k"})
    (event,) = night.events
    assert (answer.status_code, answer.text, answer.headers["x-by"]) == (200, "moon", "night")
    assert (event["httpMethod"], event["path"]) == ("POST", "/v1/chat/completions")
    assert event["multiValueQueryStringParameters"] == {"a": ["1%202"], "b": [""]}
    assert event["multiValueHeaders"]["x-key"] == ["k"]
    assert event["multiValueHeaders"]["x-forwarded-proto"] == ["http"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"model":"m"}', False)


async def test_a_body_above_the_limit_does_not_reach_the_night_watch() -> None:
    night = Night()
    async with balanced(NIGHT, night) as (client, _):
        answer = await client.post("/v1/chat/completions", content=b"x" * (alb.LIMIT_BYTES + 1))
    assert (answer.status_code, answer.text, night.events) == (413, alb.TOO_LARGE, [])


@pytest.mark.parametrize(
    "result",
    [
        FunctionFailed("it raised"),
        Throttled("too many run"),
        {"body": "no status"},
        "no object",
        {"statusCode": 200, "isBase64Encoded": True, "body": "?"},
        {"statusCode": 200, "body": "x" * (alb.LIMIT_BYTES + 1)},
        {"statusCode": 200, "body": base64.b64encode(b"x" * (alb.LIMIT_BYTES - 100)).decode(), "isBase64Encoded": True},
    ],
)
async def test_a_function_that_fails_or_says_nonsense_is_a_502(result: Any) -> None:
    async with balanced(NIGHT, Night(result)) as (client, _):
        assert (await client.get("/")).status_code == 502


async def test_requests_to_the_night_watch_do_not_wait_for_each_other() -> None:
    night = Night()
    night.release.clear()
    async with balanced(NIGHT, night) as (client, _):
        asking = [asyncio.create_task(client.get("/")) for _ in range(5)]
        while len(night.events) < 5:  # noqa: ASYNC110 - it is another thread
            await asyncio.sleep(0.01)
        night.release.set()
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 5


# -- the control plane


async def test_without_any_task_it_is_a_503_and_with_one_that_does_not_listen_a_502() -> None:
    async with balanced(DAY, Night()) as (client, _):
        assert (await client.get("/")).status_code == 503
    with reserve(0) as held:
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with balanced(DAY, Night(), [nobody]) as (client, _):
            assert (await client.get("/")).status_code == 502


async def test_bytes_pass_as_they_come() -> None:
    go_on = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await go_on.wait()
        writer.write(b"4\r\nlast\r\n0\r\n\r\n")

    async with target(serve) as url, balanced(DAY, Night(), [url]) as (client, balancer):
        async with client.stream("GET", "/") as answer:
            parts = answer.aiter_raw()
            assert await anext(parts) == b"first"
            assert balancer.in_flight[url] == 1
            go_on.set()
            assert [part async for part in parts] == [b"last"]
        assert balancer.in_flight[url] == 0


async def test_an_answer_that_breaks_off_is_never_ended_in_good_order() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        writer.transport.abort()

    async with target(serve) as url, balanced(DAY, Night(), [url]) as (client, _):
        with pytest.raises(httpx.TransportError):
            await client.get("/")


async def test_what_is_broken_off_is_broken_for_the_client_and_what_comes_later_is_not() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await reader.read()

    async with target(serve) as url, balanced(DAY, Night(), [url]) as (client, balancer):
        async with client.stream("GET", "/") as answer:
            parts = answer.aiter_raw()
            assert await anext(parts) == b"first"
            balancer.break_off("http://another")
            balancer.break_off(url)
            with pytest.raises(httpx.TransportError):
                await anext(parts)
        async with client.stream("GET", "/") as answer:
            assert await anext(answer.aiter_raw()) == b"first"


async def test_a_client_that_hangs_up_ends_the_request_to_the_target() -> None:
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await reader.read()
        hung_up.set()

    async with target(serve) as url, balanced(DAY, Night(), [url]) as (client, _):
        async with client.stream("GET", "/") as answer:
            await anext(answer.aiter_raw())
        await asyncio.wait_for(hung_up.wait(), 5)


async def test_a_target_that_says_nothing_for_too_long_is_a_504() -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with target(serve) as url, balanced(DAY, Night(), [url], idle_timeout_s=0.2) as (client, _):
        assert (await client.get("/")).status_code == 504


async def test_a_taken_port_is_told() -> None:
    async with balanced(NIGHT, Night()) as (client, _):
        port = client.base_url.port
        assert port
        turns = Turns(lambda: NIGHT, clock=lambda: 0.0, propagation_s=0.0, rng=random.Random(1))
        second = Balancer(port, turns, Behind("night", Night(), list), idle_timeout_s=1.0)
        with pytest.raises(OSError, match="in use"):
            await asyncio.to_thread(second.__enter__)
