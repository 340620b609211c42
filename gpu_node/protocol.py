"""What a node writes about itself, and what it reads back.

One row of the ``instances`` table is the whole conversation between a node's agent and the control plane:
the agent writes its report into the row, and the same conditional write returns what the control plane
wrote there (the orders). This is the only module of ``gpu_node`` that the control plane may import.

Times are Unix seconds, as floats. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ENGINE_PORT = 8000
"""The port of the engine on every node; the security group admits the control plane to it and nobody else."""

DRAIN_HOOK = "drain"
"""The lifecycle hook on termination of every group: an instance that is taken out, by whomever, waits in
Terminating:Wait, up and serving. Whoever sees the node's last request end completes the hook."""

DRAIN_HOOK_S = 900
"""How long AWS waits for that, in seconds; then it ends the instance all the same. Well above the control plane's own
limit of a drain."""

LONGEST_LEASE_S = 1800.0
"""No lease reaches further than this from when a node first reads it."""

LOG_TAIL_LINES = 200
"""How many of the engine's last log lines a report carries while the node boots, or when it failed."""

LOG_LINE_CHARS = 400
"""Longer log lines are cut here: 200 of them must stay far below DynamoDB's 400 KB an item."""


class NodeState(StrEnum):
    """Where a node stands; the table of moves is in ``control_plane.nodes``."""

    PENDING = "pending"  # the cloud granted an instance; its agent has not spoken yet
    BOOTING = "booting"  # the agent speaks; the engine is not ready
    READY = "ready"  # the engine answers
    DRAINING = "draining"  # gets no new request; leaves when the last one ends
    FAILED = "failed"  # will never serve (again); `error` says why; still to be taken down
    TERMINATED = "terminated"  # the cloud agrees that it is gone


class Phase(StrEnum):
    """The road from launch to ready, in this order; a phase that has nothing to do is left out."""

    INSTANCE = "instance"  # the cloud starts the machine
    DRIVER = "driver"  # GPUs and their driver are checked
    ENGINE_INSTALL = "engine-install"  # the engine is put on the machine
    WEIGHTS = "weights"  # the model's files are fetched
    LOAD = "load"  # the engine reads them into GPU memory
    COMPILE = "compile"  # kernels are compiled, graphs captured
    WARMUP = "warmup"  # memory is profiled, the HTTP server comes up


@dataclass(frozen=True)
class PhaseRecord:
    """One phase that a node entered."""

    phase: Phase
    started_at: float
    done_bytes: int | None = None
    total_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        record: dict[str, Any] = {"phase": str(self.phase), "started_at": self.started_at}
        if self.done_bytes is not None:
            record["done_bytes"] = self.done_bytes
        if self.total_bytes is not None:
            record["total_bytes"] = self.total_bytes
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PhaseRecord:
        return cls(
            phase=Phase(record["phase"]),
            started_at=float(record["started_at"]),
            done_bytes=record.get("done_bytes"),
            total_bytes=record.get("total_bytes"),
        )


@dataclass(frozen=True)
class Failure:
    """Why something cannot start or cannot go on.

    ``code`` is stable and machine-readable; ``message`` is one plain sentence; ``fix`` says what to do about it.
    ``permanent`` means that trying again without changing anything cannot help; ``cause`` is what the engine itself
    said of it, where it did.
    """

    code: str
    message: str
    fix: str = ""
    permanent: bool = False
    cause: str = ""

    def to_dict(self) -> dict[str, Any]:
        told = {"code": self.code, "message": self.message, "fix": self.fix, "permanent": self.permanent}
        return {**told, "cause": self.cause} if self.cause else told

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Failure:
        return cls(
            code=str(record["code"]),
            message=str(record["message"]),
            fix=str(record.get("fix", "")),
            permanent=bool(record.get("permanent", False)),
            cause=str(record.get("cause", "")),
        )

    @property
    def sentence(self) -> str:
        """Message and fix, for a person."""
        return f"{self.message} {self.fix}".strip()


@dataclass(frozen=True)
class Report:
    """What the agent knows; written whole at every heartbeat."""

    instance_id: str
    model: str
    state: NodeState  # BOOTING, READY, DRAINING or FAILED: the only states an agent moves its own row to
    heartbeat_at: float
    ip: str
    instance_type: str
    zone: str
    market: str
    phases: Sequence[PhaseRecord] = ()
    running: int = 0  # requests the engine works on, by its own metrics
    waiting: int = 0  # requests in the engine's queue
    interruption_at: float = 0.0  # when AWS takes this Spot instance back; 0: it has not said so
    rebalance_at: float = 0.0  # when AWS said that it may
    log_tail: Sequence[str] = ()
    error: Failure | None = None
    reason: str = ""  # why it drains, where it does so by itself

    def to_item(self) -> dict[str, Any]:
        """The attributes of the row that belong to the agent, without the key and the state."""
        return {
            "model": self.model,
            "heartbeat_at": self.heartbeat_at,
            "ip": self.ip,
            "instance_type": self.instance_type,
            "zone": self.zone,
            "market": self.market,
            "phases": [record.to_dict() for record in self.phases],
            "running": self.running,
            "waiting": self.waiting,
            "interruption_at": self.interruption_at,
            "rebalance_at": self.rebalance_at,
            "log_tail": list(self.log_tail),
            "error": self.error.to_dict() if self.error else None,
        }


@dataclass(frozen=True)
class Orders:
    """What the control plane wants of a node, read back from the row after a heartbeat."""

    state: NodeState
    lease_until: float

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Orders:
        return cls(state=NodeState(item["status"]), lease_until=float(item.get("lease_until", 0.0)))


# -- plain values <-> DynamoDB attribute values -------------------------------------------------------------------
# boto3's own TypeSerializer refuses floats and answers Decimals; rows here hold times, counts and text only.


def to_attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """A plain mapping as DynamoDB attribute values."""
    return {name: to_attribute(value) for name, value in item.items()}


def from_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A DynamoDB item as a plain mapping."""
    return {name: from_attribute(value) for name, value in attributes.items()}


def to_attribute(value: Any) -> dict[str, Any]:
    """One plain value as a DynamoDB attribute value. Raises TypeError for what the tables never hold."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int() | float():
            return {"N": _number(value)}
        case str():
            return {"S": value}
        case Mapping():
            return {"M": to_attributes(value)}
        case list() | tuple():
            return {"L": [to_attribute(member) for member in value]}
        case frozenset():
            return {"SS": sorted(value)}
    raise TypeError(f"no attribute value for {type(value).__name__}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}".rstrip("0").rstrip(".")


def from_attribute(attribute: Mapping[str, Any]) -> Any:
    """One DynamoDB attribute value as a plain value; numbers become int where they are whole."""
    ((kind, value),) = attribute.items()
    match kind:
        case "NULL":
            return None
        case "BOOL" | "S":
            return value
        case "N":
            return int(value) if value.lstrip("-").isdigit() else float(value)
        case "M":
            return from_attributes(value)
        case "L":
            return [from_attribute(member) for member in value]
        case "SS":
            return frozenset(value)
    raise TypeError(f"no plain value for attribute type {kind}")
