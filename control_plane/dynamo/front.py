"""The front's one item in the ``control`` table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Row, assignments
from control_plane.ports import Front, FrontState
from gpu_node.protocol import Failure

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_FRONT = {"item": "front"}


class DynamoFront:
    """FrontStore over DynamoDB. No item yet means asleep, epoch 0: so it is after the first `pulumi up`."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def read(self) -> Front:
        return _front(await self._rows.get(**_FRONT) or {})

    async def move(self, front: Front, target: FrontState, *, at: float, failure: Failure | None = None) -> Front:
        values: Row = {"state": str(target), "since": at}
        if failure:
            values |= {"failure": failure.to_dict(), "failed_at": at}
        elif target is FrontState.AWAKE:
            values |= {"failure": None, "failed_at": 0.0}
        unmoved = "#epoch = :epoch" if front.epoch else "attribute_not_exists(#epoch)"
        given = values | {"one": 1} | ({"epoch": front.epoch} if front.epoch else {})
        row = await self._rows.update(_FRONT, assignments(values) + " ADD #epoch :one", given, when=unmoved)
        return _front(row)

    async def claim(self, front: Front, *, at: float) -> None:
        unseen = "#looked_at = :seen" if front.looked_at else "attribute_not_exists(#looked_at)"
        given = {"looked_at": at} | ({"seen": front.looked_at} if front.looked_at else {})
        await self._rows.update(_FRONT, "SET #looked_at = :looked_at", given, when=unseen)


def _front(row: Row) -> Front:
    failure = row.get("failure")
    return Front(
        state=FrontState(row.get("state", FrontState.ASLEEP)),
        epoch=int(row.get("epoch", 0)),
        since=row.get("since", 0.0),
        looked_at=row.get("looked_at", 0.0),
        failure=Failure.from_dict(failure) if failure else None,
        failed_at=row.get("failed_at", 0.0),
    )
