"""Who is held while the control plane sleeps: one item of the ``control`` table, with a set of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Refused
from control_plane.holds import Slot

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_HOLDS = {"item": "holds"}
_ROOM = "attribute_not_exists(#slots) OR size(#slots) < :most"


class DynamoHolds:
    """HoldStore over DynamoDB. A slot is a member of a set: put in twice it is there once, and taken out twice as well,
    so neither a lost reply nor the SDK's own retry can miscount."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def take(self, slot: Slot, *, most: int, at: float) -> bool:
        """One write, unless the set is full of what ran out: then whoever finds it so takes that out first."""
        try:
            await self._add(slot, most)
        except Refused as refused:
            taken = refused.row["slots"]
            if _member(slot) in taken:  # by the SDK's first attempt, whose reply was lost
                return True
            over = frozenset(member for member in taken if _until(member) <= at)
            return bool(over) and await self._replace(over, slot, most)
        return True

    async def give_back(self, slot: Slot) -> None:
        await self._remove(frozenset({_member(slot)}))

    async def _replace(self, over: frozenset[str], slot: Slot, most: int) -> bool:
        await self._remove(over)
        try:
            await self._add(slot, most)
        except Refused:  # others took what became free
            return False
        return True

    async def _add(self, slot: Slot, most: int) -> None:
        given = {"slot": frozenset({_member(slot)}), "most": most}
        await self._rows.update(_HOLDS, "ADD #slots :slot", given, when=_ROOM)

    async def _remove(self, members: frozenset[str]) -> None:
        await self._rows.update(_HOLDS, "DELETE #slots :members", {"members": members})


def _member(slot: Slot) -> str:
    return f"{slot.until:.3f} {slot.holder}"


def _until(member: str) -> float:
    return float(member.partition(" ")[0])
