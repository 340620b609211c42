"""How many requests a key may make in a minute: one bucket a key, which fills again all the time."""

from __future__ import annotations

import math

from control_plane.errors import RateLimited
from control_plane.ports import Clock, KeyRow

MAX_BUCKETS = 10_000


class Limits:
    """Of one process: two that answer at the same time allow twice as much."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # what was in it, and when

    def count(self, key: KeyRow) -> None:
        """One request with this key. Raises RateLimited, and then counts nothing."""
        most = key.requests_per_minute
        if most is None:
            return
        now = self._clock()
        left, since = self._buckets.get(key.key_hash, (float(most), now))
        left = min(float(most), left + max(0.0, now - since) * most / 60)
        if left < 1:
            raise RateLimited(
                f"This API key may make {most} requests a minute.", retry_after_s=math.ceil((1 - left) * 60 / most)
            )
        if len(self._buckets) >= MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[key.key_hash] = left - 1, now
