"""The door inside: a port that no load balancer forwards to, and that no security group admits anybody to by itself.

What is served there is for who watches the deployment from within its network. It may not be in the way of anything: a
port that cannot be had costs a line in the log.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from control_plane.exchange import Application
from control_plane.http_server import configured, serving

BACKLOG = 16
MAX_OPEN = 16  # connections: one who watches needs one

log = logging.getLogger(__name__)


@asynccontextmanager
async def inside(app: Application, *, host: str, port: int) -> AsyncIterator[int]:
    """Serves while it is entered, without a loop of its own; gives the port (another one for 0), or 0 where it could
    not be had."""
    try:
        listening = socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        log.warning("nothing is served inside", extra={"port": port, "error": str(error)})
        yield 0
        return
    config = configured(app, lifespan="off", limit_concurrency=MAX_OPEN, timeout_graceful_shutdown=1)
    async with serving(config, listening):
        yield int(listening.getsockname()[1])
