"""The ``control`` table: how far notices have been sent, one item a channel."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, assignments
from control_plane.notice import Progress

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_NOTICES = "notices#"


class DynamoNotices:
    """NoticeStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def read(self, channel: str) -> Progress:
        row = await self._rows.get(item=_NOTICES + channel) or {}
        return Progress(**{name: row[name] for name in Progress.__dataclass_fields__ if name in row})

    async def write(self, channel: str, progress: Progress) -> Progress:
        written = replace(progress, version=progress.version + 1)
        when = "#version = :seen" if progress.version else "attribute_not_exists(#version)"
        seen = {"seen": progress.version} if progress.version else {}
        values = asdict(written)
        await self._rows.update({"item": _NOTICES + channel}, assignments(values), values | seen, when=when)
        return written
