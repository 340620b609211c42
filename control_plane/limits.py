"""How often something may be done in a minute: one bucket a name, which fills again all the time."""

from __future__ import annotations

import math

from control_plane.errors import RateLimited
from control_plane.ports import Clock

MAX_BUCKETS = 10_000


class Limits:
    """Of one process: two that answer at the same time allow twice as much."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # what was in it, and when

    def count(self, name: str, *, per_minute: int, whose: str) -> None:
        """Once more. Raises RateLimited, and then counts nothing; ``whose`` begins its sentence."""
        now = self._clock()
        left, since = self._buckets.get(name, (float(per_minute), now))
        left = min(float(per_minute), left + max(0.0, now - since) * per_minute / 60)
        if left < 1:
            wait_s = math.ceil((1 - left) * 60 / per_minute)
            raise RateLimited(f"{whose} may make {per_minute} requests a minute.", retry_after_s=wait_s)
        if len(self._buckets) >= MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[name] = left - 1, now
