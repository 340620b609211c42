"""The ``models`` table: what Pulumi configured, what the UI changed, how starts went.

Two rows a model. Pulumi's, under ``schema.CONFIGURED`` and the name, is only read here: a model is configured for as
long as it stands. Ours, under the name, has the rest, and a copy of the configuration: the nodes read that row alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from control_plane import schema
from control_plane.boots import Boot
from control_plane.dynamo.table import DynamoTable, Refused, Row, assignments
from control_plane.errors import Stale
from control_plane.nodes import NodeId
from control_plane.ports import ModelRow
from control_plane.schema import CONFIGURED
from gpu_node.protocol import LOG_TAIL_LINES, Failure

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEEP_STARTS = 20
"""How many starts a model remembers; the estimate of the next one is made of them."""

KEEP_LOG_LINES = LOG_TAIL_LINES
"""How many of a failed engine's last lines a model remembers."""

KEEP_COUNTED = 50
"""How many nodes a model remembers as counted: more than can stand in the table at a time, each until it is gone."""

_FORGIVE = "#failures = :zero REMOVE #failure, #failure_log, #refusal"


class DynamoModels:
    """ModelStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.MODELS)

    async def list(self) -> Sequence[ModelRow]:
        rows = {row["name"]: row for row in await self._rows.scan()}
        names = sorted(key.removeprefix(CONFIGURED) for key in rows if key.startswith(CONFIGURED))
        return [_model(name, rows[CONFIGURED + name], rows.get(name, {})) for name in names]

    async def adopt(self, name: str, config: Mapping[str, Any]) -> None:
        with suppress(Stale):  # it says the same already: its failures still stand
            await self._rows.update(
                {"name": name},
                f"SET #config = :config, {_FORGIVE}",
                {"config": config, "zero": 0},
                when="attribute_not_exists(#config) OR #config <> :config",
            )

    async def set_override(self, name: str, override: Mapping[str, Any], *, expected: Mapping[str, Any]) -> None:
        unchanged = "#override = :expected" if expected else "attribute_not_exists(#override) OR #override = :expected"
        await self._rows.update(
            {"name": name},
            f"SET #override = :override, {_FORGIVE}",
            {"override": override, "expected": expected, "zero": 0},
            when=unchanged,
        )

    async def started(self, name: str, boot: Boot, *, forgives: bool = True) -> None:
        row = await self._rows.update(
            {"name": name},
            f"SET #boots = list_append(if_not_exists(#boots, :none), :boots){', ' + _FORGIVE if forgives else ''}",
            {"none": [], "boots": [asdict(boot)]} | ({"zero": 0} if forgives else {}),
        )
        if len(row["boots"]) > KEEP_STARTS:
            await self._forget_oldest(name, "boots", KEEP_STARTS)

    async def _forget_oldest(self, name: str, what: str, limit: int) -> None:
        with suppress(Stale):  # another writer trimmed the list already
            await self._rows.update(
                {"name": name}, f"REMOVE #{what}[0]", {"limit": limit}, when=f"size(#{what}) > :limit"
            )

    async def failed(
        self, name: str, failure: Failure, *, node: NodeId, at: float, count: int, log_tail: Sequence[str] = ()
    ) -> None:
        values: dict[str, Any] = {
            "failures": count,
            "failure": failure.to_dict(),
            "failed_at": at,
            "failure_log": list(log_tail)[-KEEP_LOG_LINES:],
        }
        change = f"{assignments(values)}, #counted = list_append(if_not_exists(#counted, :none), :nodes)"
        values |= {"none": [], "nodes": [node], "node": node}
        when = "NOT contains(#counted, :node)"
        if count > 1:  # 1 begins anew, whatever stood there
            when, values = f"{when} AND #failures = :before", values | {"before": count - 1}
        try:
            row = await self._rows.update({"name": name}, change, values, when=when)
        except Refused as refused:
            if node in refused.row.get("counted", ()):
                return
            raise
        if len(row["counted"]) > KEEP_COUNTED:
            await self._forget_oldest(name, "counted", KEEP_COUNTED)

    async def refused(self, name: str, failure: Failure, *, at: float) -> None:
        values = {"refusal": failure.to_dict(), "refused_at": at}
        await self._rows.update({"name": name}, assignments(values), values)

    async def forgive(self, name: str, *, failed_at: float | None = None) -> None:
        meant = {} if failed_at is None else {"failed_at": failed_at}
        when = "#failed_at = :failed_at" if meant else ""
        await self._rows.update({"name": name}, f"SET {_FORGIVE}", {"zero": 0, **meant}, when=when)


def _model(name: str, configured: Row, row: Row) -> ModelRow:
    """What stands of a failure under another configuration is forgiven: it says nothing of this one."""
    config, place = configured.get("config", {}), configured.get("place")
    adopted = row.get("config") == config
    failure, refusal = (row.get("failure"), row.get("refusal")) if adopted else (None, None)
    return ModelRow(
        name=name,
        config=config,
        override=row.get("override", {}),
        boots=tuple(Boot(**boot) for boot in row.get("boots", ())),
        failures=row.get("failures", 0) if failure else 0,
        failure=Failure.from_dict(failure) if failure else None,
        failure_log=tuple(row.get("failure_log", ())) if failure else (),
        failed_at=row.get("failed_at", 0.0),
        counted=tuple(map(NodeId, row.get("counted", ()))),
        refusal=Failure.from_dict(refusal) if refusal else None,
        refused_at=row.get("refused_at", 0.0),
        adopted=adopted,
        place=None if place is None else int(place),
    )
