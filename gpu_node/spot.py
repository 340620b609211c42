"""Whether AWS wants a Spot instance back: what its notices say, and when to ask for them. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

ASK_EVERY_S = 5.0
"""As AWS recommends; an interruption is told two minutes before it comes."""


@dataclass(frozen=True)
class Notice:
    """What AWS has announced. Unix seconds; 0 means that it has not."""

    interruption_at: float = 0.0  # when it stops, hibernates or ends the instance: certain
    rebalance_at: float = 0.0  # when it said that an interruption has become likely: nothing may come of it


NONE = Notice()


def notice(instance_action: str | None, rebalance: str | None) -> Notice:
    """From the two answers of the metadata service, None where it has none. Raises ValueError."""
    return Notice(_time(instance_action, "time"), _time(rebalance, "noticeTime"))


def _time(text: str | None, name: str) -> float:
    if text is None:
        return 0.0
    told = json.loads(text)
    if not isinstance(told, dict) or not isinstance(told.get(name), str):
        raise ValueError(f"no {name} in a notice")
    return datetime.fromisoformat(told[name].replace("Z", "+00:00")).timestamp()


class SpotWatch:
    """Asks every few seconds; ``notice`` is the last answer. Once an interruption is announced, nothing is asked."""

    def __init__(self, ask: Callable[[], Notice], *, clock: Callable[[], float]) -> None:
        """``ask`` may raise anything of its own: it is asked again when it is time."""
        self._ask = ask
        self._clock = clock
        self._asked_at = float("-inf")
        self.notice = NONE

    def look(self) -> bool:
        """Is there news?"""
        now = self._clock()
        if self.notice.interruption_at or now < self._asked_at + ASK_EVERY_S:
            return False
        self._asked_at = now
        before, self.notice = self.notice, self._ask()
        return self.notice != before
