"""Hours in which a model is kept awake: a cron line in a time zone, and how long each time. Pure.

The line says when it begins, on the zone's own clocks: one that the clocks skip in spring begins an hour later, one
that they repeat in autumn begins once. The minutes after that are real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

MAX_WINDOWS = 8
MAX_MINUTES = 1440

_MARGIN_S = 3 * 3600
_KEYS = ("cron", "minutes", "zone")


@dataclass(frozen=True)
class WarmHours:
    """As in ``{"cron": "0 9 * * mon-fri", "minutes": 540, "zone": "Europe/Berlin"}``."""

    cron: str  # minute, hour, day of month, month, day of week
    minutes: int
    zone: str = "UTC"

    def since(self, now: float) -> float | None:
        """When the hours began that are going on now, Unix seconds; None outside of them."""
        begin = _last_begin(self.cron, self.zone, self.minutes, int(now // 60))
        return begin if begin is not None and now < begin + self.minutes * 60 else None

    def until(self, now: float) -> float | None:
        """When the hours end that are going on now, Unix seconds; None outside of them."""
        begin = self.since(now)
        return None if begin is None else begin + self.minutes * 60


def parse(told: Sequence[Mapping[str, Any]]) -> Sequence[WarmHours]:
    """What ``problems`` found nothing wrong with."""
    return tuple(WarmHours(each["cron"], each["minutes"], each.get("zone", "UTC")) for each in told)


def problems(told: object) -> Sequence[str]:
    """What is wrong with a model's warm hours, in words; nothing where they can be parsed."""
    if not isinstance(told, list | tuple) or len(told) > MAX_WINDOWS:
        return [f"warmHours must be a list of at most {MAX_WINDOWS} objects of cron, minutes and zone"]
    return [problem for place, each in enumerate(told) for problem in _problems(each, f"warmHours[{place}]")]


def _problems(each: object, path: str) -> Sequence[str]:
    if not isinstance(each, Mapping) or not {"cron", "minutes"} <= set(each) <= set(_KEYS):
        return [f"{path} must be an object of cron, minutes and, if it is not UTC, zone"]
    found = []
    minutes = each["minutes"]
    if isinstance(minutes, bool) or not isinstance(minutes, int) or not 1 <= minutes <= MAX_MINUTES:
        found.append(f"{path}.minutes must be a whole number from 1 to {MAX_MINUTES}")
    if not _is_zone(each.get("zone", "UTC")):
        found.append(f"{path}.zone is {each['zone']!r}, which is no time zone, as in Europe/Berlin")
    if not _is_cron(each["cron"]):
        found.append(f"{path}.cron is {each['cron']!r}, which is no cron line of five fields, as in 0 9 * * mon-fri")
    return found


def _is_zone(zone: object) -> bool:
    try:
        return isinstance(zone, str) and bool(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _is_cron(cron: object) -> bool:
    if not isinstance(cron, str) or len(cron.split()) != 5 or len(cron) > 100:
        return False
    try:
        next(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        return False
    return True


@lru_cache(maxsize=256)
def _last_begin(cron: str, zone: str, minutes: int, minute: int) -> float | None:
    """The last moment, up to the end of this minute since 1970, at which the line holds; None if that is too long ago.

    Looked for forwards, and from well before: backwards, an hour that the clocks repeat would be taken for another.
    """
    end = (minute + 1) * 60
    begins = CronSim(cron, datetime.fromtimestamp(end - minutes * 60 - _MARGIN_S, ZoneInfo(zone)))
    found = None
    for begin in begins:
        if begin.timestamp() >= end:
            break
        found = begin.timestamp()
    return found
