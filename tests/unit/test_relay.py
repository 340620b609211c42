"""Signs of life for many clients at once; time is stepped."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from control_plane.dialect import CHAT
from control_plane.exchange import Exchange, Manner, Patience, Send
from control_plane.fleet import Fleet
from control_plane.relay import Relay
from control_plane.upstream import Upstreams
from control_plane.usage import Meter
from tests.memory import FakeClock
from tests.memory_books import MemoryUsage


async def _nobody(_model: str, _owner: str, _key: str) -> None:
    raise AssertionError("nothing is to be woken")


class Waiting:
    """A relay whose clients wait for a model that does not come."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        fleet = Fleet(clock=self.clock, max_waiters=9)
        meter = Meter(MemoryUsage(), clock=self.clock, writer="w")
        self.relay = Relay(fleet, Upstreams(), meter, ask=_nobody, clock=self.clock, patience=Patience())

    def client(self, send: Send) -> None:
        exchange = Exchange(
            send, dialect=CHAT, model="m", manner=Manner.STREAM, patience=Patience(), now=self.clock(), request_id="r"
        )
        self.relay._open.add(exchange)

    async def minutes(self, count: int) -> None:
        for _ in range(60 * count):
            self.clock.step(1)
            self.relay.beat()
            await asyncio.sleep(0)


async def test_a_reader_that_stalls_keeps_nobody_else_from_a_sign_of_life() -> None:
    waiting, sent, never = Waiting(), [], asyncio.Event()

    async def stalls(_message: MutableMapping[str, Any]) -> None:
        await never.wait()

    async def reads(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    waiting.client(stalls)
    waiting.client(reads)
    await waiting.minutes(2)
    assert len(sent) >= 10
    never.set()
    await asyncio.sleep(0)


async def test_a_client_whose_socket_fails_keeps_nobody_else_from_a_sign_of_life() -> None:
    waiting, sent = Waiting(), []

    async def breaks(_message: MutableMapping[str, Any]) -> None:
        raise OSError("gone")

    async def reads(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    waiting.client(breaks)
    waiting.client(reads)
    await waiting.minutes(2)
    assert len(sent) >= 10
