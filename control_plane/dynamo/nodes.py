"""The ``instances`` table: one row a GPU node, shared with the agent on the node."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from control_plane import schema
from control_plane.dynamo.table import DynamoTable, Refused, Row, assignments
from control_plane.errors import Stale
from control_plane.nodes import MOVES, Cause, Node, NodeId
from gpu_node.protocol import Failure, NodeState, PhaseRecord

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEEP_TERMINATED_S = 14 * 86400
"""How long the row of a node that is gone stays for people to read."""

_LIVE = "attribute_exists(#instance_id) AND #status <> :terminated"
_TERMINATED = {"terminated": str(NodeState.TERMINATED)}


class DynamoNodes:
    """NodeStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str) -> None:
        self._rows = DynamoTable(client, namespace, schema.INSTANCES)

    async def list(self) -> Sequence[Node]:
        return [_node(row) for row in await self._rows.scan("#status <> :terminated", _TERMINATED)]

    async def add(self, node: Node) -> None:
        await self._rows.insert(_row(node))

    async def claim(self, node: Node) -> None:
        names = ("group", "zone", "market", "launched_at", "micro_usd_per_hour", "launch_micro_usd")
        known = {name: getattr(node, name) for name in names} | {"cause": asdict(node.cause)}
        await self._rows.update(_key(node.id), assignments(known), known | _TERMINATED, when=_LIVE)
        await self._grow(node.id, "lease_until", node.lease_until)

    async def move(
        self,
        node_id: NodeId,
        source: NodeState,
        target: NodeState,
        *,
        at: float,
        reason: str,
        error: Failure | None = None,
    ) -> None:
        if target not in MOVES[source]:
            raise AssertionError(f"no move from {source} to {target}")
        changed: Row = {"status": str(target), "reason": reason} | _stamps(target, at)
        if error:
            changed["error"] = error.to_dict()
        change = assignments(changed)
        if target is NodeState.TERMINATED:
            change += " REMOVE #log_tail, #phases"
        await self._rows.update(_key(node_id), change, changed | {"source": str(source)}, when="#status = :source")

    async def renew(self, node_id: NodeId, *, lease_until: float, last_request_at: float) -> None:
        times = {"lease_until": lease_until, "last_request_at": last_request_at}
        growing = " AND ".join([_LIVE, *map(_not_beyond, times)])
        try:
            await self._rows.update(_key(node_id), assignments(times), times | _TERMINATED, when=growing)
        except Refused as refused:
            if refused.row.get("status") in (None, NodeState.TERMINATED):
                raise
            # One of the two is behind what stands there; the other may still be news.
            for name, time in times.items():
                await self._grow(node_id, name, time)

    async def _grow(self, node_id: NodeId, name: str, time: float) -> None:
        with suppress(Stale):  # a longer one stands already
            await self._rows.update(
                _key(node_id),
                assignments({name: time}),
                {name: time} | _TERMINATED,
                when=f"{_LIVE} AND {_not_beyond(name)}",
            )


def _key(node_id: NodeId) -> dict[str, str]:
    return {"instance_id": node_id}


def _not_beyond(name: str) -> str:
    return f"(attribute_not_exists(#{name}) OR #{name} <= :{name})"


def _stamps(target: NodeState, at: float) -> Row:
    match target:
        case NodeState.READY:
            return {"ready_at": at}
        case NodeState.DRAINING:
            return {"draining_since": at}
        case NodeState.TERMINATED:
            return {"terminated_at": at, "expires_at": int(at) + KEEP_TERMINATED_S}
        case _:
            return {}


def _row(node: Node) -> Row:
    # Only what is known: the agent fills in what is absent, and must not find a zero there.
    row: dict[str, Any] = {name: value for name, value in asdict(node).items() if value}
    row |= {"instance_id": row.pop("id"), "status": str(row.pop("state"))}
    if node.phases:
        row["phases"] = [record.to_dict() for record in node.phases]
    return row


def _node(row: Row) -> Node:
    error, phases = row.get("error"), row.get("phases") or ()
    return Node(
        id=NodeId(row["instance_id"]),
        model=row["model"],
        state=NodeState(row["status"]),
        group=row.get("group", ""),
        zone=row.get("zone", ""),
        instance_type=row.get("instance_type", ""),
        market=row.get("market", ""),
        launched_at=row.get("launched_at", 0.0),
        lease_until=row.get("lease_until", 0.0),
        ready_at=row.get("ready_at", 0.0),
        draining_since=row.get("draining_since", 0.0),
        last_request_at=row.get("last_request_at", 0.0),
        heartbeat_at=row.get("heartbeat_at", 0.0),
        terminated_at=row.get("terminated_at", 0.0),
        ip=row.get("ip", ""),
        phases=tuple(map(PhaseRecord.from_dict, phases)),
        running=row.get("running", 0),
        waiting=row.get("waiting", 0),
        interruption_at=row.get("interruption_at", 0.0),
        rebalance_at=row.get("rebalance_at", 0.0),
        log_tail=tuple(row.get("log_tail") or ()),
        error=Failure.from_dict(error) if error else None,
        reason=row.get("reason", ""),
        cause=Cause(**row.get("cause", {})),
        micro_usd_per_hour=row.get("micro_usd_per_hour", 0),
        launch_micro_usd=row.get("launch_micro_usd", 0),
    )
