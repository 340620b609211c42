"""Loops that go on whatever happens in them: a control plane whose loop died quietly would still look healthy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from control_plane.errors import Unavailable

PAUSE_S = 1.0  # after a step that failed

log = logging.getLogger(__name__)


async def forever(step: Callable[[], Awaitable[None]]) -> NoReturn:
    """One step after another until cancelled. A step does its own waiting; what goes wrong in it is logged."""
    while True:
        try:
            await step()
        except Unavailable as error:
            log.warning("AWS unavailable", extra={"step": step.__qualname__, "error": str(error)})
            await asyncio.sleep(PAUSE_S)
        except Exception:
            log.exception("step failed", extra={"step": step.__qualname__})
            await asyncio.sleep(PAUSE_S)


async def either(happened: asyncio.Event, limit_s: float) -> None:
    """Return when it happens, or after the limit; what happened before the call counts."""
    limit = asyncio.get_running_loop().call_later(limit_s, happened.set)
    try:
        await happened.wait()
    finally:
        limit.cancel()
    happened.clear()


async def last(step: Callable[[], Awaitable[None]], limit_s: float) -> None:
    """A step at the end of a process: what it cannot do in that time, or at all, is lost and logged."""
    try:
        async with asyncio.timeout(limit_s):
            await step()
    except (Unavailable, TimeoutError) as error:
        log.error("lost at the end", extra={"what": step.__qualname__, "error": str(error) or "no answer in time"})
