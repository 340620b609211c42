"""A model as its users see it: cold, starting, ready, draining or failed; and what it waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.model import Model
from control_plane.nodes import STARTING, Node, public_word
from control_plane.plan import Policy, standing_failure
from control_plane.ports import ModelRow, Wish
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord


@dataclass(frozen=True)
class Status:
    """One model and its nodes at one moment."""

    model: Model
    row: ModelRow
    wish: Wish | None
    nodes: Sequence[Node]
    waiters: int
    last_request_at: float  # the end of the last request that this process served; 0: none yet
    now: float
    policy: Policy

    @property
    def word(self) -> str:
        states = {node.state for node in self.nodes}
        if NodeState.READY in states:
            return "ready"
        if states & STARTING or (self._wished and not self.failure):
            return "starting"
        if self.failure:
            return "failed"
        return "draining" if NodeState.DRAINING in states else "cold"

    @property
    def failure(self) -> Failure | None:
        return standing_failure(self.row, self.now, self.policy)

    @property
    def _wished(self) -> bool:
        return bool(self.waiters) or (
            self.wish is not None and self.wish.desired > 0 and self.wish.hold_until > self.now
        )

    def to_dict(self) -> dict[str, Any]:
        """The model's entry in ``/api/models`` and ``/api/cluster``."""
        return {
            "name": self.model.name,
            "status": self.word,
            "instances": [node_dict(node, self.now) for node in self.nodes],
            "start": self._start(),
            "failure": self.failure.to_dict() if self.failure else None,
            "waiting_requests": self.waiters,
            "idle_timeout_s": self.model.idle_timeout_s,
            "sleeps_at": self._sleeps_at(),
            "keep_awake_until": (self.wish.keep_awake_until or None) if self.wish else None,
        }

    def _start(self) -> dict[str, Any] | None:
        node = next((node for node in self.nodes if node.state in STARTING), None)
        usual_s = self.row.usual_start_s
        if node is None:
            return {"phase": "launch", "elapsed_s": 0.0, "eta_s": usual_s} if self.word == "starting" else None
        elapsed_s = round(self.now - node.launched_at, 1)
        return {
            "phase": str(node.phase.phase),
            "elapsed_s": elapsed_s,
            "eta_s": None if usual_s is None else max(0.0, round(usual_s - elapsed_s, 1)),
        }

    def _sleeps_at(self) -> float | None:
        """When it goes if no request comes; while one runs, that is still open."""
        ready = [node for node in self.nodes if node.state is NodeState.READY]
        if not ready:
            return None
        last_use = max(self.last_request_at, *(max(node.ready_at, node.last_request_at) for node in ready))
        kept = self.wish.keep_awake_until if self.wish else 0.0
        return max(last_use + self.model.idle_timeout_s, kept)


def node_dict(node: Node, now: float, *, log_tail: bool = False) -> dict[str, Any]:
    """A node's entry in the API."""
    entry: dict[str, Any] = {
        "instance_id": node.id,
        "status": public_word(node.state),
        "instance_type": node.instance_type,
        "zone": node.zone,
        "market": node.market,
        "launched_at": node.launched_at,
        "ready_at": node.ready_at or None,
        "age_s": round(now - node.launched_at, 1),
        "phases": [record.to_dict() for record in _road(node)],
        "running_requests": node.running,
        "reason": node.reason or None,
        "error": node.error.to_dict() if node.error else None,
    }
    return {**entry, "log_tail": list(node.log_tail)} if log_tail else entry


def _road(node: Node) -> Sequence[PhaseRecord]:
    """Its phases. The first began at the launch, of which the agent knows nothing."""
    first = PhaseRecord(Phase.INSTANCE, node.launched_at)
    return (first, *(record for record in node.phases if record.phase is not Phase.INSTANCE))


def configuration(model: Model) -> Mapping[str, Any]:
    """What Pulumi configured, what was changed since, and what holds."""
    return {
        "config": dict(model.config),
        "override": dict(model.override),
        "effective": {**model.config, **model.override},
    }
