"""A request whose body still comes is at work here: the control plane stays up for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.api.asking import ASK, CHAT
from tests.stories.virtual import story
from tests.stories.world import World, deployment

UPLOAD_S = 1200.0


@asynccontextmanager
async def idle() -> AsyncIterator[World]:
    """A control plane that nothing needs."""
    async with deployment() as world:
        await asyncio.sleep(10)
        assert not world.plane.needed()
        yield world


async def begun(world: World, key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A request with the first half of its body, and the other half."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    body = json.dumps(ASK).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n" + body[:10])
    await asyncio.sleep(1)
    return reader, writer, body[10:]


@story
async def test_an_upload_needs_the_control_plane_until_it_is_answered() -> None:
    async with idle() as world:
        reader, writer, rest = await begun(world, world.api_key)
        await asyncio.sleep(UPLOAD_S)
        assert world.plane.needed()
        writer.write(rest)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        await world.until_gone(1000)
        await asyncio.sleep(200)
        assert not world.plane.needed()


@story
async def test_an_upload_that_breaks_off_needs_it_no_more() -> None:
    async with idle() as world:
        _, writer, _ = await begun(world, world.api_key)
        assert world.plane.needed()
        writer.close()
        await asyncio.sleep(10)
        assert not world.plane.needed()


@story
async def test_an_upload_of_nobody_keeps_nothing_awake() -> None:
    async with idle() as world:
        _, writer, _ = await begun(world, "dio-wrong")
        assert not world.plane.needed()
        writer.close()
