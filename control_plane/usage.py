"""What requests used: summed in memory, added to the ledger every few seconds and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from control_plane.ports import Clock, Tally, UsageStore

DAY_S = 86400


class Tokens(NamedTuple):
    """What one answer cost, as its engine counted."""

    prompt: int = 0
    cached: int = 0  # of the prompt, found in the prefix cache
    completion: int = 0


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0


class Ledger:
    """Counts requests and tokens by owner, day and model.

    Sums leave in numbered batches: a batch whose writing failed half way is sent again under its number, and the
    store counts each number once.
    """

    def __init__(self, store: UsageStore, *, clock: Clock, writer: str) -> None:
        self._store = store
        self._clock = clock
        self._writer = writer
        self._sums: dict[tuple[str, int, str], _Sum] = {}
        self._batch: Sequence[Tally] = ()
        self._number = 0

    def count(self, owner: str, model: str, tokens: Tokens | None) -> None:
        """One answered request; ``tokens`` is None where the engine did not say."""
        key = (owner, int(self._clock() // DAY_S), model)
        total = self._sums.get(key)
        if total is None:
            total = self._sums[key] = _Sum()
        total.requests += 1
        if tokens:
            total.prompt += tokens.prompt
            total.cached += tokens.cached
            total.completion += tokens.completion

    async def flush(self) -> None:
        """Add what was counted. Raises Unavailable; nothing is lost then, the next flush sends it again."""
        if self._batch:
            await self._send()
        if self._sums:  # once, not until none is left: under load there is always more
            self._batch, self._sums = tuple(_tally(*key, total) for key, total in self._sums.items()), {}
            self._number += 1
            await self._send()

    async def _send(self) -> None:
        await self._store.add(self._batch, writer=self._writer, number=self._number)
        self._batch = ()


def _tally(owner: str, day: int, model: str, total: _Sum) -> Tally:
    return Tally(
        owner,
        datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d"),
        model,
        requests=total.requests,
        prompt_tokens=total.prompt,
        cached_tokens=total.cached,
        completion_tokens=total.completion,
    )
