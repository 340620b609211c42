"""A value that somebody else may change: read once for all who ask, and again when it has grown old."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from control_plane.errors import Unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)


class Fresh(Generic[T]):
    """A value older than ``limit_s`` is never handed out; from ``renew_s`` on the next one is read meanwhile.

    So somebody waits only for the first read, and after a pause. A value is as old as the beginning of its read.
    """

    def __init__(
        self, read: Callable[[], Awaitable[T]], *, clock: Callable[[], float], limit_s: float, renew_s: float = math.inf
    ) -> None:
        self._read = read
        self._clock = clock
        self._limit_s = limit_s
        self._renew_s = renew_s
        self._held: tuple[T, float] | None = None  # and since when
        self._reading: asyncio.Future[T] | None = None
        self._reading_since = 0.0

    async def get(self, *, max_age_s: float = math.inf) -> T:
        """Raises what the read raises, when there is nothing young enough."""
        if self._held:
            value, since = self._held
            age = self._clock() - since
            if age < min(self._limit_s, max_age_s):
                if age >= self._renew_s:
                    self._begin()
                return value
        return await asyncio.shield(self._begin())  # who came first may leave first

    def forget(self) -> None:
        """It was changed from here: what is held, and what is being read, is of before."""
        self._held = self._reading = None

    def _begin(self) -> asyncio.Future[T]:
        now = self._clock()
        # A function's process is frozen between calls, and a read that was frozen with it may never end.
        if self._reading is None or now - self._reading_since >= self._limit_s:
            self._reading_since = now
            self._reading = asyncio.ensure_future(self._read())
            self._reading.add_done_callback(self._done)
        return self._reading

    def _done(self, reading: asyncio.Future[T]) -> None:
        error = None if reading.cancelled() else reading.exception()
        if isinstance(error, Unavailable):
            log.warning("could not be read again", extra={"error": str(error)})
        if reading is not self._reading:
            return  # forgotten meanwhile
        if not reading.cancelled() and error is None:
            self._held = reading.result(), self._reading_since
        self._reading = None
