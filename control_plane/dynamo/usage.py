"""The ``usage`` table: sums a day, a model and an owner."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Row
from control_plane.errors import Stale
from control_plane.ports import Tally

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

COUNTERS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
_ADDED = "ADD " + ", ".join(f"#{name} :{name}" for name in COUNTERS)


class DynamoUsage:
    """UsageStore over DynamoDB. Each row remembers the last number of every writer, so a replay adds nothing."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.USAGE)

    async def add(self, tallies: Sequence[Tally], *, writer: str, number: int) -> None:
        for tally in _merged(tallies):
            with suppress(Stale):  # counted already
                await self._rows.update(
                    {"owner_month": f"{tally.owner}#{tally.day[:7]}", "day_model": f"{tally.day}#{tally.model}"},
                    f"{_ADDED} SET #seq = :seq",
                    {name: getattr(tally, name) for name in COUNTERS} | {"seq": number},
                    when="attribute_not_exists(#seq) OR #seq < :seq",
                    names={"seq": f"seq_{writer}"},
                )

    async def list(self, owner: str, month: str) -> Sequence[Tally]:
        return [_tally(owner, row) for row in await self._rows.query(f"{owner}#{month}")]


def _merged(tallies: Sequence[Tally]) -> Sequence[Tally]:
    # Two sums for one row under one number: the row would take the second for a replay of the first.
    merged: dict[tuple[str, str, str], Tally] = {}
    for tally in tallies:
        key = (tally.owner, tally.day, tally.model)
        known = merged.get(key)
        sums = {name: getattr(known, name, 0) + getattr(tally, name) for name in COUNTERS}
        merged[key] = replace(tally, **sums)
    return list(merged.values())


def _tally(owner: str, row: Row) -> Tally:
    day, _, model = row["day_model"].partition("#")
    return Tally(owner=owner, day=day, model=model, **{name: row[name] for name in COUNTERS})
