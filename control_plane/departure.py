"""Has the load balancer begun to take this task out? ECS has it do so first, and says SIGTERM only when that is over.

AWS documents the order so: a task that shall end is DEACTIVATING while its target is taken out of the group, which ECS
waits for; then it is STOPPING, has SIGTERM, and the stop timeout. When the deregistration delay is over, the load
balancer breaks the connections that are open. Whoever waited for SIGTERM would have nobody left to say goodbye to, so a
task looks at its own target. Where SIGTERM comes first after all, nothing is lost: the earlier end holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp

from control_plane.ports import Stage

METADATA = "ECS_CONTAINER_METADATA_URI_V4"
TRIES = 3
LIMIT_S = 2.0  # for one
PAUSE_S = 1.0

log = logging.getLogger(__name__)


class Departure:
    """Tells, at the first look that finds this task's target on its way out, since when that may be; and when it stands
    again after all.

    A target is known by its address alone, and a task may get that of one that crashed, whose target drains until ECS
    registers the new one. Nobody is sent to it before, so it loses nothing by taking that for its own end; and one that
    is taken out right after it was found healthy, before its first look, learns of it in time.
    """

    def __init__(self, address: str, begins: Callable[[float], None], taken_back: Callable[[], None]) -> None:
        """``address`` of the target; empty: not known, so it is never found. ``begins`` hears the earliest time."""
        self._address = address
        self._begins = begins
        self._taken_back = taken_back
        self._stood_at: float | None = None  # the last look that found it in its place
        self._begun = False

    def saw(self, stage: Stage, at: float) -> None:
        """``at``: when the look began."""
        if not self._address:
            return
        if self._address in stage.standing:
            self._stood_at = at
            self._stands()
        elif self._address in stage.draining and not self._begun:
            self._begun = True
            self._begins(at if self._stood_at is None else self._stood_at)

    def _stands(self) -> None:
        if self._begun:
            self._begun = False
            self._taken_back()


async def own_address(http: aiohttp.ClientSession, host: str, environ: Mapping[str, str]) -> str:
    """The address that this task is a target by: the one it listens on, or what ECS tells of its network; or empty."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared
        return host
    uri = environ.get(METADATA)
    if not uri:
        return ""
    for left in reversed(range(TRIES)):
        try:
            async with http.get(uri, timeout=aiohttp.ClientTimeout(total=LIMIT_S), raise_for_status=True) as answer:
                told = await answer.json(content_type=None)
            return str(told["Networks"][0]["IPv4Addresses"][0])
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            log.warning("own address not known", extra={"error": f"{type(error).__name__}: {error}"})
            await asyncio.sleep(PAUSE_S if left else 0.0)
    return ""
