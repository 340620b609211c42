"""The ``models`` table: what Pulumi seeded, what the UI changed, how starts went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Row, assignments
from control_plane.errors import Stale
from control_plane.ports import ModelRow
from gpu_node.protocol import Failure

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEEP_STARTS = 20
"""How many starts a model remembers; the estimate of the next one is made of them."""

KEEP_LOG_LINES = 50
"""How many of a failed engine's last lines a model remembers."""

_FORGIVE = "#failures = :zero REMOVE #failure, #failure_log"
_KNOWN = "attribute_exists(#name)"


class DynamoModels:
    """ModelStore over DynamoDB. Everything but ``seed`` raises Stale for a model that was never seeded."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.MODELS)

    async def list(self) -> Sequence[ModelRow]:
        return sorted(map(_model, await self._rows.scan()), key=lambda row: row.name)

    async def seed(self, name: str, config: Mapping[str, Any]) -> None:
        with suppress(Stale):  # it says the same already: its failures still stand
            await self._rows.update(
                {"name": name},
                f"SET #config = :config, {_FORGIVE}",
                {"config": config, "zero": 0},
                when="attribute_not_exists(#config) OR #config <> :config",
            )

    async def set_override(self, name: str, override: Mapping[str, Any], *, expected: Mapping[str, Any]) -> None:
        unchanged = (
            "#override = :expected" if expected else "(attribute_not_exists(#override) OR #override = :expected)"
        )
        await self._rows.update(
            {"name": name},
            f"SET #override = :override, {_FORGIVE}",
            {"override": override, "expected": expected, "zero": 0},
            when=f"{_KNOWN} AND {unchanged}",
        )

    async def started(self, name: str, seconds: float) -> None:
        row = await self._rows.update(
            {"name": name},
            f"SET #boot_seconds = list_append(if_not_exists(#boot_seconds, :none), :seconds), {_FORGIVE}",
            {"none": [], "seconds": [seconds], "zero": 0},
            when=_KNOWN,
        )
        if len(row["boot_seconds"]) > KEEP_STARTS:
            await self._forget_oldest(name)

    async def _forget_oldest(self, name: str) -> None:
        with suppress(Stale):  # another start trimmed the list already
            await self._rows.update(
                {"name": name},
                "REMOVE #boot_seconds[0]",
                {"limit": KEEP_STARTS},
                when="size(#boot_seconds) > :limit",
            )

    async def failed(self, name: str, failure: Failure, *, at: float, count: int, log_tail: Sequence[str] = ()) -> None:
        values: dict[str, Any] = {
            "failures": count,
            "failure": failure.to_dict(),
            "failed_at": at,
            "failure_log": list(log_tail)[-KEEP_LOG_LINES:],
        }
        when, before = _KNOWN, {}
        if count > 1:  # the one that follows, or the same again; 0 and 1 begin anew, whatever stood there
            when += " AND #failures IN (:before, :failures)"
            before = {"before": count - 1}
        await self._rows.update({"name": name}, assignments(values), values | before, when=when)

    async def forgive(self, name: str) -> None:
        await self._rows.update({"name": name}, f"SET {_FORGIVE}", {"zero": 0}, when=_KNOWN)


def _model(row: Row) -> ModelRow:
    failure = row.get("failure")
    return ModelRow(
        name=row["name"],
        config=row.get("config", {}),
        override=row.get("override", {}),
        boot_seconds=tuple(row.get("boot_seconds", ())),
        failures=row.get("failures", 0),
        failure=Failure.from_dict(failure) if failure else None,
        failure_log=tuple(row.get("failure_log", ())),
        failed_at=row.get("failed_at", 0.0),
    )
