"""The ``events`` table: a day's events (UTC) under one key, in the order of time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable
from control_plane.errors import Stale
from control_plane.ports import Event

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEEP_EVENTS_S = 30 * 86400
"""An event goes after a month."""


class DynamoEvents:
    """EventStore over DynamoDB. An event's key follows from what it says, so the same one never stands twice."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.EVENTS)

    async def add(self, events: Sequence[Event]) -> None:
        for event in events:
            told = {name: value for name, value in asdict(event).items() if value is not None}
            key = _key(event)
            with suppress(Stale):  # kept already
                await self._rows.insert(
                    told | {"day": key[:10], "at_id": key, "expires_at": int(event.at) + KEEP_EVENTS_S}
                )


def _key(event: Event) -> str:
    """Sorts by time; begins with the day, so that it alone finds the row."""
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="microseconds")
    said = "\0".join(str(value) for value in asdict(event).values())
    return f"{at.removesuffix('+00:00')}Z#{hashlib.sha256(said.encode()).hexdigest()[:16]}"
