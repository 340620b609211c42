"""The ``usage`` table: what was used, and what it was used on. Facts only; dollars follow from them (``ledger``).

``<owner>#<month>`` holds an owner's sums, a quarter of an hour each; ``owners#<month>`` whose there are;
``bills#<month>`` the machines that lived in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.books import Bill, BillKind, Tally
from control_plane.dynamo.table import DynamoTable, Refused, Row, assignments
from control_plane.errors import Stale
from control_plane.nodes import Cause

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

COUNTERS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "busy_us")
_ADDED = "ADD " + ", ".join(f"#{name} :{name}" for name in COUNTERS)
_OWNERS = "owners#"
_BILLS = "bills#"


class DynamoUsage:
    """UsageStore over DynamoDB. Each row remembers the last number of every writer, so a replay adds nothing."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.USAGE)
        self._listed: set[tuple[str, str]] = set()  # owners of a month that are known to be listed

    async def add(self, tallies: Sequence[Tally], *, writer: str, number: int) -> None:
        for tally in _merged(tallies):
            await self._list_owner(tally.owner, tally.slice[:7])
            with suppress(Stale):  # counted already
                await self._rows.update(
                    {
                        "owner_month": f"{tally.owner}#{tally.slice[:7]}",
                        "day_model": "#".join((tally.slice, tally.model, tally.key, tally.node)),
                    },
                    f"{_ADDED} SET #seq = :seq",
                    {name: getattr(tally, name) for name in COUNTERS} | {"seq": number},
                    when="attribute_not_exists(#seq) OR #seq < :seq",
                    names={"seq": f"seq_{writer}"},
                )

    async def list(self, owner: str, month: str) -> Sequence[Tally]:
        return [_tally(owner, row) for row in await self._rows.query(f"{owner}#{month}")]

    async def tallies(self, month: str) -> Sequence[Tally]:
        owners = [row["day_model"] for row in await self._rows.query(_OWNERS + month)]
        found = await asyncio.gather(*(self.list(owner, month) for owner in owners))
        return [tally for tallies in found for tally in tallies]

    async def close(self, bill: Bill) -> None:
        # What the first month keeps holds for all of them: a later try may know another end.
        months = _months(bill)
        stands = await self._keep(next(months), bill)
        for month in months:
            await self._keep(month, stands)

    async def extend(self, bill: Bill) -> None:
        for month in _months(bill):
            row = _bill_row(bill)
            with suppress(Stale):  # it is longer already
                await self._rows.update(
                    _bill_key(month, bill.id),
                    assignments(row),
                    row,
                    when="attribute_not_exists(#ended_at) OR #ended_at <= :ended_at",
                )

    async def bills(self, month: str) -> Sequence[Bill]:
        return [_bill(row) for row in await self._rows.query(_BILLS + month)]

    async def _keep(self, month: str, bill: Bill) -> Bill:
        try:
            await self._rows.insert(_bill_key(month, bill.id) | _bill_row(bill))
        except Refused as refused:
            return _bill(refused.row)
        return bill

    async def _list_owner(self, owner: str, month: str) -> None:
        """Before the first sum: whoever reads everybody's month finds it by this."""
        if (owner, month) not in self._listed:
            await self._rows.update(
                {"owner_month": _OWNERS + month, "day_model": owner}, "SET #listed = :yes", {"yes": 1}
            )
            self._listed.add((owner, month))


def _merged(tallies: Sequence[Tally]) -> Sequence[Tally]:
    # Two sums for one row under one number: the row would take the second for a replay of the first.
    merged: dict[tuple[str, ...], Tally] = {}
    for tally in tallies:
        key = (tally.owner, tally.slice, tally.model, tally.key, tally.node)
        known = merged.get(key)
        sums = {name: getattr(known, name, 0) + getattr(tally, name) for name in COUNTERS}
        merged[key] = replace(tally, **sums)
    return list(merged.values())


def _tally(owner: str, row: Row) -> Tally:
    when, model, key, node = row["day_model"].split("#")
    return Tally(owner, when, model, key, node, **{name: row[name] for name in COUNTERS})


def _months(bill: Bill) -> Iterator[str]:
    """Every month of UTC that it is paid in."""
    month = datetime.fromtimestamp(bill.started_at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while True:
        yield month.strftime("%Y-%m")
        month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        if month.timestamp() * 1000 >= bill.paid_ms[1]:
            return


def _bill_key(month: str, bill_id: str) -> dict[str, str]:
    return {"owner_month": _BILLS + month, "day_model": bill_id}


def _bill_row(bill: Bill) -> Row:
    row = asdict(bill)
    del row["id"]
    return row | {"kind": str(bill.kind)}


def _bill(row: Mapping[str, object]) -> Bill:
    told = {name: value for name, value in row.items() if name in Bill.__dataclass_fields__}
    cause = told.pop("cause")
    assert isinstance(cause, Mapping)
    kind = BillKind(str(told.pop("kind")))
    return Bill(id=str(row["day_model"]), kind=kind, cause=Cause(**cause), **told)  # type: ignore[arg-type]
