"""The ``api-keys`` table: hashes of keys, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Refused, Row
from control_plane.ports import KeyRow

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


class DynamoKeys:
    """KeyStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.API_KEYS)

    async def list(self) -> Sequence[KeyRow]:
        return sorted(map(_key, await self._rows.scan()), key=lambda row: (row.created_at, row.key_hash))

    async def add(self, row: KeyRow) -> None:
        await self._rows.insert(asdict(row))

    async def revoke(self, key_hash: str, email: str) -> None:
        await self._rows.delete({"key_hash": key_hash}, when="#email = :email", values={"email": email})

    async def used(self, key_hash: str, at: float) -> None:
        try:
            await self._rows.update(
                {"key_hash": key_hash},
                "SET #last_used_at = :at",
                {"at": at},
                when="attribute_exists(#key_hash) AND #last_used_at < :at",
            )
        except Refused as refused:
            if not refused.row:
                raise  # revoked; anything else is a later use, already written


def _key(row: Row) -> KeyRow:
    known = {field.name: row[field.name] for field in fields(KeyRow) if field.name in row}
    return KeyRow(**{**known, "models": tuple(known.get("models", ()))})
