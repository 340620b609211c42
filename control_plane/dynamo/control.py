"""The ``control`` table: wishes, launch intents, and the epoch of the one reconciler."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Refused, Row, assignments
from control_plane.nodes import Cause
from control_plane.ports import Clock, Launch, Term, Wish

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEEP_INTENT_S = 86400
"""A launch intent that nobody settled goes after a day; it is settled within minutes, or its instance is known."""

_WAKE = "wake#"
_LAUNCH = "launch#"
_RECONCILER = {"item": "reconciler"}
_FREE = "attribute_not_exists(#seen_at) OR #seen_at = :nobody"


class DynamoWishes:
    """WishStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def list(self) -> Sequence[Wish]:
        return [_wish(row) for row in await self._rows.scan("begins_with(#item, :wake)", {"wake": _WAKE})]

    async def ask(self, wish: Wish) -> bool:
        """Three cases, each a whole condition of its own write; a race lost between them starts over.

        1. No hold, or none beyond ours: the wish is ours.
        2. A longer hold for fewer nodes: more nodes, the hold stays.
        3. A longer hold for at least as many: only counted, so that a drop that did not see us fails.
        """
        while True:
            try:
                return await self._replace(wish)
            except Refused as refused:
                beaten = refused.row.get("desired", 0) >= wish.desired
            with suppress(Refused):
                await (self._count(wish) if beaten else self._raise(wish))
                return False

    async def _replace(self, wish: Wish) -> bool:
        values = _wished(wish) | {"desired": wish.desired, "hold_until": wish.hold_until}
        before = await self._write(
            wish.model, values, when="attribute_not_exists(#hold_until) OR #hold_until <= :hold_until"
        )
        return bool(before.get("hold_until", 0.0) <= wish.asked_at)

    async def _raise(self, wish: Wish) -> None:
        values = _wished(wish) | {"desired": wish.desired}
        await self._rows.update(
            _wake(wish.model),
            assignments(values) + " ADD #version :one",
            values | {"one": 1, "hold": wish.hold_until},
            when="#hold_until > :hold AND #desired < :desired",
        )

    async def _count(self, wish: Wish) -> None:
        await self._rows.update(
            _wake(wish.model),
            "ADD #version :one",
            {"one": 1, "hold": wish.hold_until, "enough": wish.desired},
            when="#hold_until > :hold AND #desired >= :enough",
        )

    async def keep_awake(self, model: str, until: float, *, by: str, at: float) -> None:
        # A wish that begins here holds nothing, but is no order to sleep either: desired is 1.
        values = _asked(model, by, at) | {"keep_awake_until": until}
        fresh = ", #desired = if_not_exists(#desired, :one), #hold_until = if_not_exists(#hold_until, :none)"
        await self._rows.update(
            _wake(model), assignments(values) + fresh + " ADD #version :one", values | {"one": 1, "none": 0}
        )

    async def sleep(self, model: str, *, by: str, at: float) -> None:
        await self._write(model, _asked(model, by, at) | {"desired": 0, "hold_until": 0, "keep_awake_until": 0})

    async def drop(self, wish: Wish) -> None:
        # A wish dropped and asked anew counts from 1 again: its time tells it from the one that was read.
        await self._rows.delete(
            _wake(wish.model),
            when="attribute_not_exists(#item) OR (#version = :version AND #asked_at = :asked_at)",
            values={"version": wish.version, "asked_at": wish.asked_at},
        )

    async def _write(self, model: str, values: Row, *, when: str = "") -> Row:
        """The row as it was before."""
        change = assignments(values) + " ADD #version :one"
        return await self._rows.update(_wake(model), change, values | {"one": 1}, when=when, before=True)


class DynamoLaunches:
    """LaunchStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def list(self) -> Sequence[Launch]:
        rows = await self._rows.scan("begins_with(#item, :launch)", {"launch": _LAUNCH})
        return [_launch(row) for row in rows]

    async def intend(self, launch: Launch) -> None:
        expiry = {"expires_at": int(launch.at) + KEEP_INTENT_S}
        await self._rows.insert({"item": _LAUNCH + launch.token} | asdict(launch) | expiry)

    async def settle(self, token: str) -> None:
        await self._rows.delete({"item": _LAUNCH + token})


class DynamoFence:
    """Fence over DynamoDB. ``hold`` leaves the time in ``seen_at``: the sign of life that the janitor reads."""

    def __init__(self, client: DynamoDBClient, namespace: str, *, clock: Clock) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)
        self._clock = clock

    async def take(self, holder: str) -> Term:
        try:
            return await self._take(holder, when=_FREE, nobody=0)
        except Refused:
            return await self._take(holder, ousted_at=self._clock())

    async def take_over(self, holder: str, *, silent_s: float) -> Term:
        try:
            return await self._take(holder, when=_FREE, nobody=0)
        except Refused:
            now = self._clock()
            return await self._take(
                holder, ousted_at=now, when="#seen_at <= :silent_since", silent_since=now - silent_s
            )

    async def _take(self, holder: str, *, ousted_at: float | None = None, when: str = "", **of_when: float) -> Term:
        values = {"holder": holder, "seen_at": self._clock()} | ({} if ousted_at is None else {"ousted_at": ousted_at})
        row = await self._rows.update(
            _RECONCILER, assignments(values) + " ADD #epoch :one", values | {"one": 1} | of_when, when=when
        )
        return Term(int(row["epoch"]), row.get("ousted_at", 0.0))

    async def release(self, term: Term) -> None:
        await self._sign(term, seen_at=0)

    async def hold(self, term: Term) -> None:
        await self._sign(term, seen_at=self._clock())

    async def _sign(self, term: Term, *, seen_at: float) -> None:
        values = {"seen_at": seen_at}
        of_term = values | {"epoch": term.epoch}
        await self._rows.update(_RECONCILER, assignments(values), of_term, when="#epoch = :epoch")

    async def seen_at(self) -> float:
        row = await self._rows.get(**_RECONCILER) or {}
        return float(row.get("seen_at", 0.0))


def _wake(model: str) -> dict[str, str]:
    return {"item": _WAKE + model}


def _asked(model: str, by: str, at: float) -> Row:
    return {"model": model, "by": by, "asked_at": at}


def _wished(wish: Wish) -> Row:
    return _asked(wish.model, wish.by, wish.asked_at) | {"key": wish.key, "speculative": wish.speculative}


def _launch(row: Row) -> Launch:
    told = {name: row[name] for name in Launch.__dataclass_fields__ if name in row}
    return Launch(**told | {"cause": Cause(**row.get("cause", {}))})


def _wish(row: Row) -> Wish:
    return Wish(
        model=row["model"],
        desired=row["desired"],
        hold_until=row["hold_until"],
        by=row["by"],
        asked_at=row["asked_at"],
        keep_awake_until=row.get("keep_awake_until", 0.0),
        version=row["version"],
        key=row.get("key", ""),
        speculative=row.get("speculative", False),
    )
