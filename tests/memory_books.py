"""Usage and limits in memory: they pass the same contract suite as the real adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from control_plane.books import Bill, Limit, Tally
from control_plane.usage import month_of, month_start
from tests.memory import Fallible

_COUNTERS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "busy_us")
_Key = tuple[str, str, str, str, str]


@dataclass
class MemoryUsage(Fallible):
    rows: dict[_Key, Tally] = field(default_factory=dict)  # by owner, slice, model, key, node
    closed: dict[str, Bill] = field(default_factory=dict)
    _counted: dict[tuple[str, _Key], int] = field(default_factory=dict)

    async def add(self, tallies: Sequence[Tally], *, writer: str, number: int) -> None:
        fresh = {key for key in map(_key, tallies) if self._counted.get((writer, key), -1) < number}
        for tally in tallies:
            key = _key(tally)
            if key in fresh:
                self.rows[key] = _sum(self.rows.get(key, Tally(*key)), tally)
                self._counted[writer, key] = number

    async def list(self, owner: str, month: str) -> Sequence[Tally]:
        return [tally for tally in self._month(month) if tally.owner == owner]

    async def tallies(self, month: str) -> Sequence[Tally]:
        return self._month(month)

    async def close(self, bill: Bill) -> None:
        self.closed.setdefault(bill.id, bill)

    async def extend(self, bill: Bill) -> None:
        known = self.closed.get(bill.id)
        if known is None or known.ended_at <= bill.ended_at:
            self.closed[bill.id] = bill

    async def bills(self, month: str) -> Sequence[Bill]:
        begin = month_start(month)
        end = month_start(month_of(begin + 32 * 86400))
        lived = (bill for bill in self.closed.values() if bill.started_at < end)
        return [bill for bill in lived if bill.paid_ms[1] > begin * 1000]

    def _month(self, month: str) -> Sequence[Tally]:
        return [self.rows[key] for key in sorted(self.rows) if key[1].startswith(month)]


def _key(tally: Tally) -> _Key:
    return tally.owner, tally.slice, tally.model, tally.key, tally.node


def _sum(left: Tally, right: Tally) -> Tally:
    return replace(left, **{name: getattr(left, name) + getattr(right, name) for name in _COUNTERS})


@dataclass
class MemoryLimits(Fallible):
    rows: dict[str, Limit] = field(default_factory=dict)

    async def list(self) -> Sequence[Limit]:
        return [self.rows[scope] for scope in sorted(self.rows)]

    async def set(self, limit: Limit) -> None:
        self.rows[limit.scope] = limit

    async def clear(self, scope: str) -> None:
        self.rows.pop(scope, None)
