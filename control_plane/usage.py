"""What requests used: summed in memory, added to the ledger every few seconds and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from control_plane.ports import Clock, Tally, UsageStore


@dataclass(frozen=True)
class Tokens:
    """What one answer cost, as its engine counted."""

    prompt: int = 0
    cached: int = 0  # of the prompt, found in the prefix cache
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
        self._sums: dict[tuple[str, str, str], Tally] = {}
        self._batch: Sequence[Tally] = ()
        self._number = 0

    def count(self, owner: str, model: str, tokens: Tokens | None) -> None:
        """One answered request; ``tokens`` is None where the engine did not say."""
        used = tokens or Tokens()
        day = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%d")
        key = (owner, day, model)
        tally = self._sums.get(key) or Tally(owner, day, model)
        self._sums[key] = replace(
            tally,
            requests=tally.requests + 1,
            prompt_tokens=tally.prompt_tokens + used.prompt,
            cached_tokens=tally.cached_tokens + used.cached,
            completion_tokens=tally.completion_tokens + used.completion,
        )

    async def flush(self) -> None:
        """Add what was counted. Raises Unavailable; nothing is lost then, the next flush sends it again."""
        if not self._batch:
            if not self._sums:
                return
            self._batch, self._sums = tuple(self._sums.values()), {}
            self._number += 1
        await self._store.add(self._batch, writer=self._writer, number=self._number)
        self._batch = ()
