"""A model as its users see it: cold, starting, ready, draining or failed; and what it waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.books import Bill
from control_plane.boots import Boot, alike, eta, road, usual, weights_of
from control_plane.ledger import run_dict
from control_plane.model import Model
from control_plane.nodes import STARTING, Node, public_word
from control_plane.policy import Policy, standing_failure, stands_until
from control_plane.ports import ModelRow, Wish
from control_plane.remedies import remedies
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
    bills: Sequence[Bill] = ()  # of its nodes, as far as they have come

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
            "failure": self._failure(),
            "waiting_requests": self.waiters,
            "run": run_dict(self.bills),
            "idle_timeout_s": self.model.idle_timeout_s,
            "warm_since": self.model.warm_since(self.now),
            "sleeps_at": self._sleeps_at(),
            "keep_awake_until": (self.wish.keep_awake_until or None) if self.wish else None,
        }

    def _failure(self) -> dict[str, Any] | None:
        failure = self.failure
        if failure is None:
            return None
        fixes = [remedy.to_dict() for remedy in remedies(failure, self.model)]
        since, until = stands_until(self.row, self.now, self.policy)
        return {**failure.to_dict(), "at": since, "next_try_at": until, "fixes": fixes}

    def _start(self) -> dict[str, Any] | None:
        """How far a start is, each phase with how long it usually takes; those ahead began at 0."""
        node = next((node for node in self.nodes if node.state in STARTING), None)
        if node is None and self.word != "starting":
            return None
        kind = node.instance_type if node else self.model.instance_types[0]
        boots = alike(self.row.boots, weights=weights_of(self.model), instance_type=kind)
        records = road(node) if node else ()
        left = eta(boots, records, self.now)
        last = list(Phase).index(records[-1].phase) if records else -1
        ahead = [PhaseRecord(phase, 0.0) for phase in list(Phase)[last + 1 :] if usual(boots, phase)]
        return {
            "phase": str(node.phase.phase) if node else "launch",
            "elapsed_s": round(self.now - node.launched_at, 1) if node else 0.0,
            "eta_s": round(left.low, 1) if left else None,
            "eta": left.to_dict() if left else None,
            "phases": [_phase(record, boots) for record in (*records, *ahead)],
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
        "phases": [record.to_dict() for record in road(node)],
        "running_requests": node.running,
        "reason": node.reason or None,
        "error": node.error.to_dict() if node.error else None,
    }
    return {**entry, "log_tail": list(node.log_tail)} if log_tail else entry


def _phase(record: PhaseRecord, boots: Sequence[Boot]) -> dict[str, Any]:
    times = usual(boots, record.phase)
    p50_s, p90_s = times or (None, None)
    return {**record.to_dict(), "p50_s": p50_s, "p90_s": p90_s}


def configuration(model: Model) -> Mapping[str, Any]:
    """What Pulumi configured, what was changed since, and what holds."""
    return {
        "config": dict(model.config),
        "override": dict(model.override),
        "effective": {**model.config, **model.override},
    }
