"""Does an engine that has work get on with it? Pure.

vLLM's ``/health`` asks no engine: a dead rank, or a kernel that never returns, leaves it at 200. What cannot be faked
is the count of tokens. An engine that has requests and counts none for a while is a suspect; one request of one token,
which has to go all the way through, decides.
"""

from __future__ import annotations

from collections.abc import Mapping


class ProgressWatch:
    """Looks at one engine's own figures, time after time."""

    def __init__(self, *, suspect_after_s: float) -> None:
        self._suspect_after_s = suspect_after_s
        self._tokens: Mapping[str, float] | None = None
        self._moved_at: float | None = None  # None: no work, so nothing to wait for

    def observe(self, *, at_work: bool, tokens: Mapping[str, float], now: float) -> bool:
        """Take in one look; True when the engine is a suspect.

        ``tokens`` are its counters by name. An engine that tells of none can only be judged by whether it answers.
        """
        if not at_work or not tokens:
            self._moved_at = None
        elif self._moved_at is None or tokens != self._tokens:
            self._moved_at = now
        self._tokens = tokens
        return self._moved_at is not None and now - self._moved_at >= self._suspect_after_s

    def absolve(self, now: float) -> None:
        """It proved that it works: watched anew from here."""
        self._moved_at = now if self._moved_at is not None else None
