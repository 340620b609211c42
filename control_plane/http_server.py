"""uvicorn as everything of ours is served by it: silent in the log and about itself, believing no proxy's headers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from control_plane.exchange import Application


def configured(app: Application, **more: Any) -> uvicorn.Config:
    """``more`` by uvicorn's own names, and of its own types."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        http="httptools",
        ws="none",
        **more,
    )


@asynccontextmanager
async def serving(config: uvicorn.Config, listening: socket.socket) -> AsyncIterator[None]:
    """While it is entered, on the loop that runs: signals are not its concern."""
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listening])
    try:
        yield
    finally:
        await server.shutdown(sockets=[listening])
