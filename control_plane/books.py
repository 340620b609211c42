"""What is stored of usage and money: facts, limits, and the ports of their tables. All times are Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from control_plane.nodes import UNASKED, Cause

MINIMUM_S = 60.0
"""EC2 and Fargate bill the first minute whole."""


@dataclass(frozen=True)
class Tally:
    """What one caller's requests used of one node in a quarter of an hour; sums to be added to the ledger."""

    owner: str
    slice: str  # the beginning of the quarter, UTC: 2026-11-23T10:15
    model: str
    key: str = ""  # the id of the API key
    node: str = ""
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, found in the prefix cache
    completion_tokens: int = 0
    reasoning_tokens: int = 0  # of the completion
    busy_us: int = 0  # microseconds of the node's time: an instant that n requests share is a n-th of it for each


class BillKind(StrEnum):
    """What was paid for."""

    NODE = "node"
    TASK = "task"  # the control plane on Fargate


@dataclass(frozen=True)
class Bill:
    """One machine from its launch to its end: what it costs follows from this alone. Times are Unix seconds."""

    id: str
    kind: BillKind
    started_at: float
    ended_at: float  # of one that still runs: how far it is counted
    micro_usd_per_hour: int
    launch_micro_usd: int = 0  # once
    model: str = ""
    instance_type: str = ""
    market: str = ""
    zone: str = ""
    cause: Cause = UNASKED
    verified: bool = False  # the times are the cloud's own, not ours

    @property
    def paid_ms(self) -> tuple[int, int]:
        """From when until when it is paid; milliseconds since the epoch. It may end in a month that it did not see."""
        begin = round(self.started_at * 1000)
        return begin, max(round(self.ended_at * 1000), begin + round(MINIMUM_S * 1000))


@dataclass(frozen=True)
class Limit:
    """What a month may cost, for one scope; set by the owner."""

    scope: str  # "deployment", "speculative", "user:<email>" or "key:<id>"
    micro_usd: int  # no further start beyond it
    cap_micro_usd: int  # what runs is ended beyond it


@dataclass(frozen=True)
class Lifetime:
    """One instance's times as the cloud tells them; Unix seconds."""

    launched_at: float | None = None
    ended_at: float | None = None


class UsageStore(Protocol):
    """Months are of UTC, as YYYY-MM."""

    async def add(self, tallies: Sequence[Tally], *, writer: str, number: int) -> None:
        """Add the sums. The same ``number`` of the same ``writer`` counts once, however often it is sent."""

    async def list(self, owner: str, month: str) -> Sequence[Tally]:
        """The owner's month, in the order of time."""

    async def tallies(self, month: str) -> Sequence[Tally]:
        """Everybody's month."""

    async def close(self, bill: Bill) -> None:
        """Keep the bill of a machine that is gone, for every month that it lived in. The first that is kept stands."""

    async def extend(self, bill: Bill) -> None:
        """Keep, or lengthen, the bill of a task that runs."""

    async def bills(self, month: str) -> Sequence[Bill]:
        """Of every machine that is gone and every task that lived in that month; each once."""


class LimitStore(Protocol):
    async def list(self) -> Sequence[Limit]: ...

    async def set(self, limit: Limit) -> None: ...

    async def clear(self, scope: str) -> None:
        """What is configured holds again. Doing it twice is doing it once."""
