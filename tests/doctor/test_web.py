"""A browser's first request, made to servers on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from control_plane.doctor.ports import Page
from control_plane.doctor.web import HttpWeb


@pytest.fixture
async def web() -> AsyncIterator[HttpWeb]:
    async with aiohttp.ClientSession() as session:
        yield HttpWeb(session, limit_s=0.2)


async def get(web: HttpWeb, answer: bytes) -> Page:
    """What it makes of a server that gives this answer to everything; none, and the server is silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if answer:
            writer.close()
        else:
            await reader.read()  # until the client gives up
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        return await web.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_it_tells_status_and_content_type(web: HttpWeb) -> None:
    answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 0\r\n\r\n"
    assert await get(web, answer) == Page(401, "application/json")


async def test_it_follows_no_redirect(web: HttpWeb) -> None:
    answer = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    assert (await get(web, answer)).status == 301


@pytest.mark.parametrize("answer", [b"", b"what?\r\n\r\n"], ids=["silence", "nonsense"])
async def test_no_answer_is_told_as_trouble(web: HttpWeb, answer: bytes) -> None:
    page = await get(web, answer)
    assert page.status == 0
    assert page.trouble


async def test_nobody_there_is_told_as_trouble(web: HttpWeb) -> None:
    page = await web.get("http://127.0.0.1:9/")
    assert page.status == 0
    assert "127.0.0.1:9" in page.trouble
