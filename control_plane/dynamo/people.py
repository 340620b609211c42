"""The ``sessions`` table, and the owner's decisions about the allowlist in the ``control`` table."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Refused, Row
from control_plane.people import Override, Session

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_USED = "used#"
_ALLOWLIST = {"item": "allowlist"}
_ENTRY = "entry "


class DynamoSessions:
    """SessionStore over DynamoDB. What was used once stands in the same table, under a key of its own kind."""

    def __init__(
        self, client: DynamoDBClient, namespace: str, *, mark: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        """``mark`` tells one call from another."""
        self._rows = DynamoTable(client, namespace, schema.SESSIONS)
        self._mark = mark

    async def get(self, id_hash: str) -> Session | None:
        row = await self._rows.get(id_hash=id_hash)
        return _session(row) if row else None

    async def add(self, session: Session) -> None:
        await self._insert(asdict(session))

    async def extend(self, id_hash: str, until: float) -> None:
        await self._rows.update(
            {"id_hash": id_hash}, "SET #expires_at = :until", {"until": until}, when="attribute_exists(#id_hash)"
        )

    async def end(self, id_hash: str) -> None:
        await self._rows.delete({"id_hash": id_hash})

    async def end_all(self, email: str) -> int:
        rows = await self._rows.scan("#email = :email", {"email": email})
        for row in rows:
            await self.end(row["id_hash"])
        return len(rows)

    async def emails(self) -> Collection[str]:
        return {row["email"] for row in await self._rows.scan() if "email" in row}

    async def use_once(self, token_hash: str, *, until: float) -> None:
        await self._insert({"id_hash": _USED + token_hash, "expires_at": until, "by": self._mark()})

    async def _insert(self, row: Mapping[str, Any]) -> None:
        """Raises Stale. Where an answer is lost AWS's client asks again, and then meets the row that it has written."""
        try:
            await self._rows.insert(row)
        except Refused as refused:
            if refused.row != row:
                raise


class DynamoOverrides:
    """OverrideStore over DynamoDB: one item, an attribute for each entry: two owners never lose a change."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.CONTROL)

    async def list(self) -> Sequence[Override]:
        row = await self._rows.get(**_ALLOWLIST) or {}
        return [Override(**value) for name, value in sorted(row.items()) if name.startswith(_ENTRY)]

    async def put(self, override: Override) -> None:
        await self._rows.update(
            _ALLOWLIST,
            "SET #decided = :decided",
            {"decided": asdict(override)},
            names={"decided": _ENTRY + override.entry},
        )


def _session(row: Row) -> Session:
    return Session(**{field.name: row[field.name] for field in fields(Session)})
