"""The ``control`` table: what the owner allows a month to cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.books import Limit
from control_plane.dynamo.table import DynamoTable, assignments

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_BUDGET = "budget#"


class DynamoLimits:
    """LimitStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def list(self) -> Sequence[Limit]:
        rows = await self._rows.scan("begins_with(#item, :budget)", {"budget": _BUDGET})
        limits = (Limit(row["item"].removeprefix(_BUDGET), row["micro_usd"], row["cap_micro_usd"]) for row in rows)
        return sorted(limits, key=lambda limit: limit.scope)

    async def set(self, limit: Limit) -> None:
        values = {"micro_usd": limit.micro_usd, "cap_micro_usd": limit.cap_micro_usd}
        await self._rows.update({"item": _BUDGET + limit.scope}, assignments(values), values)

    async def clear(self, scope: str) -> None:
        await self._rows.delete({"item": _BUDGET + scope})
