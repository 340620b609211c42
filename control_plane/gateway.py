"""The outermost application: inference goes straight to the relay, everything else through FastAPI."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from control_plane.dialect import DIALECTS
from control_plane.exchange import Application, Receive, Scope, Send


class Gateway:
    """ASGI application."""

    def __init__(
        self,
        inference: Application,
        management: Application,
        running: Callable[[], contextlib.AbstractAsyncContextManager[None]],
    ) -> None:
        self._inference = inference
        self._management = management
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in DIALECTS:
            await self._inference(scope, receive, send)
        elif scope["type"] == "http":
            await self._management(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
