"""Who was turned away, in numbers: told at once for the first, then together for every minute."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from control_plane.ports import Clock

TELL_EVERY_S = 60.0


class TurnedAway:
    """Counted by the code of the error, and never by what was tried: no key, no token, no address."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._told_at = -math.inf

    def note(self, code: str | None) -> None:
        self._counts[code or "refused"] += 1

    def take(self, *, last: bool = False) -> Mapping[str, int]:
        """What is to be told now, and will not be told again; empty when there is nothing, or it is too early.

        ``last``: it is never too early.
        """
        now = self._clock()
        if not self._counts or (not last and now - self._told_at < TELL_EVERY_S):
            return {}
        counts, self._counts, self._told_at = self._counts, Counter(), now
        return dict(sorted(counts.items()))
