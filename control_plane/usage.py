"""What requests used: summed in memory, added to the ledger every few seconds and at the end.

Counted by caller, model, node and quarter of an hour: every time zone's day, and every month, is a sum of quarters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from control_plane.books import Tally, UsageStore
from control_plane.nodes import Cause, NodeId
from control_plane.ports import Clock

SLICE_S = 900

_SLICE_US = SLICE_S * 1_000_000


class Tokens(NamedTuple):
    """What one answer cost, as its engine counted."""

    prompt: int = 0
    cached: int = 0  # of the prompt, found in the prefix cache
    completion: int = 0
    reasoning: int = 0  # of the completion


class Use(NamedTuple):
    """Who uses what: the account of one request."""

    owner: str
    key: str
    model: str
    node: str


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    busy_us: int = 0


@dataclass(slots=True)
class _Node:
    """Who uses a node right now, and until when that is counted."""

    counted_us: int
    active: dict[Use, int] = field(default_factory=dict)


class Meter:
    """Counts requests, tokens and the time of nodes.

    Sums leave in numbered batches: a batch whose writing failed half way is sent again under its number, and the
    store counts each number once.
    """

    def __init__(self, store: UsageStore, *, clock: Clock, writer: str) -> None:
        self._store = store
        self._clock = clock
        self._writer = writer
        self._sums: dict[tuple[Use, int], _Sum] = {}
        self._nodes: dict[str, _Node] = {}
        self._batch: Sequence[Tally] = ()
        self._number = 0

    def count(self, use: Use, tokens: Tokens | None) -> None:
        """One answered request; ``tokens`` is None where the engine did not say."""
        total = self._sum(use, int(self._clock() // SLICE_S))
        total.requests += 1
        if tokens:
            total.prompt += tokens.prompt
            total.cached += tokens.cached
            total.completion += tokens.completion
            total.reasoning += tokens.reasoning

    def users(self) -> Mapping[NodeId, frozenset[Cause]]:
        """Whose requests each node works on right now."""
        return {
            NodeId(name): frozenset(Cause(use.owner, use.key) for use in node.active)
            for name, node in self._nodes.items()
        }

    def timed(self, use: Use) -> Timed:
        """Counts the time of the node for as long as it is entered."""
        return Timed(self, use)

    async def flush(self) -> None:
        """Add what was counted. Raises Unavailable; nothing is lost then, the next flush sends it again."""
        if self._batch:
            await self._send()
        for node in self._nodes.values():
            self._advance(node)
        if self._sums:  # once, not until none is left: under load there is always more
            self._batch, self._sums = tuple(_tally(*key, total) for key, total in self._sums.items()), {}
            self._number += 1
            await self._send()

    async def _send(self) -> None:
        await self._store.add(self._batch, writer=self._writer, number=self._number)
        self._batch = ()

    def _sum(self, use: Use, number: int) -> _Sum:
        total = self._sums.get((use, number))
        if total is None:
            total = self._sums[use, number] = _Sum()
        return total

    # -- time: a node's instant belongs to those who use it, to each a n-th

    def _began(self, use: Use) -> None:
        node = self._nodes.get(use.node)
        if node is None:
            node = self._nodes[use.node] = _Node(self._now_us())
        self._advance(node)
        node.active[use] = node.active.get(use, 0) + 1

    def _ended(self, use: Use) -> None:
        node = self._nodes[use.node]
        self._advance(node)
        node.active[use] -= 1
        if not node.active[use]:
            del node.active[use]
        if not node.active:
            del self._nodes[use.node]

    def _advance(self, node: _Node) -> None:
        now, begin = self._now_us(), node.counted_us
        requests = sum(node.active.values())
        while begin < now and requests:
            number = begin // _SLICE_US
            end = min(now, (number + 1) * _SLICE_US)
            for use, count in node.active.items():
                self._sum(use, number).busy_us += (end - begin) * count // requests
            begin = end
        node.counted_us = max(now, begin)

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)


class Timed:
    """One request's time on a node."""

    __slots__ = ("_meter", "_use")

    def __init__(self, meter: Meter, use: Use) -> None:
        self._meter = meter
        self._use = use

    def __enter__(self) -> Timed:
        self._meter._began(self._use)
        return self

    def __exit__(self, *_: object) -> None:
        self._meter._ended(self._use)


def slice_name(at: float) -> str:
    """The quarter of an hour that a moment lies in, as ``Tally.slice`` has it."""
    return datetime.fromtimestamp(at // SLICE_S * SLICE_S, UTC).strftime("%Y-%m-%dT%H:%M")


@lru_cache(maxsize=4096)  # the quarters of a month, and some
def slice_start(name: str) -> int:
    """The beginning of a quarter, in Unix seconds."""
    return int(datetime.fromisoformat(name).replace(tzinfo=UTC).timestamp())


def month_of(at: float) -> str:
    """The month of UTC that a moment lies in, YYYY-MM."""
    return _month_of_day(int(at // 86400))


@lru_cache(maxsize=64)
def _month_of_day(day: int) -> str:
    return datetime.fromtimestamp(day * 86400, UTC).strftime("%Y-%m")


@lru_cache(maxsize=64)
def month_start(month: str) -> float:
    """The beginning of a month that ``month_of`` named, in Unix seconds."""
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC).timestamp()


def _tally(use: Use, number: int, total: _Sum) -> Tally:
    return Tally(
        use.owner,
        slice_name(number * SLICE_S),
        use.model,
        use.key,
        use.node,
        requests=total.requests,
        prompt_tokens=total.prompt,
        cached_tokens=total.cached,
        completion_tokens=total.completion,
        reasoning_tokens=total.reasoning,
        busy_us=total.busy_us,
    )
