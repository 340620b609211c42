"""The promise of Probe: 200 from the engine's health check, in time, or no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from control_plane.aws import HttpProbe
from gpu_node.protocol import ENGINE_PORT
from tests.contract.test_nodes import NODE

HEALTHY, SICK, MOVED, DEAF = (f"127.0.88.{n}" for n in range(1, 5))


@pytest.fixture
async def probe() -> AsyncIterator[HttpProbe]:
    never = asyncio.Event()

    async def health(request: web.Request) -> web.Response:
        match request.url.host:
            case host if host == HEALTHY:
                return web.Response()
            case host if host == MOVED:
                raise web.HTTPFound(f"http://{HEALTHY}:{ENGINE_PORT}/health")
            case host if host == DEAF:
                await never.wait()
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    for address in (HEALTHY, SICK, MOVED, DEAF):
        await web.TCPSite(runner, address, ENGINE_PORT).start()
    async with aiohttp.ClientSession() as session:
        yield HttpProbe(session, limit_s=0.3)
    never.set()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("ip", "healthy"),
    [(HEALTHY, True), (SICK, False), (MOVED, False), (DEAF, False), ("127.0.88.9", False), ("", False)],
    ids=["healthy", "sick", "moved", "deaf", "refused", "no address yet"],
)
async def test_only_a_prompt_200_is_healthy(probe: HttpProbe, ip: str, healthy: bool) -> None:
    assert await probe(replace(NODE, ip=ip)) is healthy
