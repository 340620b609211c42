"""A model as its users see it: cold, starting, ready, draining or failed; and what it waits for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, Required, cast

from typing_extensions import TypedDict

from control_plane.books import Bill
from control_plane.boots import Boot, EtaEntry, alike, eta, road, usual, weights_of
from control_plane.ledger import RunEntry, run_dict
from control_plane.model import Model
from control_plane.nodes import STARTING, Node, public_word
from control_plane.policy import Policy, standing_failure, stands_until
from control_plane.ports import ModelRow, Wish
from control_plane.prices import prices
from control_plane.rates import MICRO, node_rate
from control_plane.remedies import FixEntry, Stack, remedies
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord

Word = Literal["cold", "starting", "ready", "draining", "failed"]


class PhaseEntry(TypedDict):
    """A stretch of the way from launch to ready."""

    phase: str
    started_at: float  # 0: it lies ahead
    done_bytes: NotRequired[int]
    total_bytes: NotRequired[int]
    p50_s: NotRequired[float | None]  # how long it usually takes
    p90_s: NotRequired[float | None]


class FailureEntry(TypedDict):
    """Why something cannot start or go on, and what helps."""

    code: str
    message: str
    fix: str
    permanent: bool
    cause: NotRequired[str]
    at: NotRequired[float]
    next_try_at: NotRequired[float | None]
    fixes: NotRequired[list[FixEntry]]


class NodeEntry(TypedDict):
    """One machine of a model. Times are Unix seconds."""

    instance_id: str
    status: str
    instance_type: str
    zone: str
    market: str
    launched_at: float
    ready_at: float | None
    age_s: float
    phases: list[PhaseEntry]
    running_requests: int
    reason: str | None
    error: FailureEntry | None
    log_tail: NotRequired[list[str]]


class StartEntry(TypedDict):
    """How far a start is. Seconds."""

    phase: str
    elapsed_s: float
    eta_s: float | None
    eta: EtaEntry | None
    phases: list[PhaseEntry]


class WarmWindow(TypedDict):
    """When a model is kept awake: from where a cron line holds, for so many minutes."""

    cron: str
    minutes: int
    zone: NotRequired[str]


class Overrides(TypedDict, total=False):
    """What of a model's configuration the API may change."""

    idleTimeout: int
    vllmArgs: str
    maxInstances: int
    warmHours: list[WarmWindow]


class ModelConfig(Overrides, total=False):
    """A model as the stack configures it."""

    name: Required[str]
    repository: str
    revision: str
    instanceTypes: Required[list[str]]
    market: str
    geometry: dict[str, int | str]
    weights: str
    maxLifetime: int


class StatusEntry(TypedDict):
    """One model's state. Times are Unix seconds."""

    name: str
    status: Word
    instances: list[NodeEntry]
    start: StartEntry | None
    failure: FailureEntry | None
    waiting_requests: int
    run: RunEntry | None
    usd_per_h: float | None  # of a machine of its first type, On-Demand; null: not in the price file
    idle_timeout_s: float
    warm_since: float | None
    sleeps_at: float | None
    keep_awake_until: float | None


class Configuration(TypedDict):
    """What Pulumi configured, what was changed since, and what holds."""

    config: ModelConfig
    override: Overrides
    effective: ModelConfig


class ModelEntry(StatusEntry, Configuration):
    """A model's state and its configuration."""


class ModelDetails(ModelEntry):
    """And what its nodes' logs say."""

    failure_log: list[str]  # the last lines from before it failed


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
    def word(self) -> Word:
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

    def to_dict(self) -> StatusEntry:
        """The model's entry in ``/api/models`` and ``/api/cluster``."""
        return {
            "name": self.model.name,
            "status": self.word,
            "instances": [node_dict(node, self.now) for node in self.nodes],
            "start": self._start(),
            "failure": self._failure(),
            "waiting_requests": self.waiters,
            "run": run_dict(self.bills),
            "usd_per_h": self._usd_per_h(),
            "idle_timeout_s": self.model.idle_timeout_s,
            "warm_since": self.model.warm_since(self.now),
            "sleeps_at": self._sleeps_at(),
            "keep_awake_until": (self.wish.keep_awake_until or None) if self.wish else None,
        }

    def _usd_per_h(self) -> float | None:
        kind = self.model.instance_types[0]
        return node_rate(kind, self.policy.sizes).per_hour / MICRO if kind in prices().instance_types else None

    def _failure(self) -> FailureEntry | None:
        failure = self.failure
        if failure is None:
            return None
        stack = Stack(self.row.place, self.policy.sizes.root_volume_gb)
        fixes = [remedy.to_dict() for remedy in remedies(failure, self.model, stack)]
        since, until = stands_until(self.row, self.now, self.policy)
        return {**_failure_entry(failure), "at": since, "next_try_at": until, "fixes": fixes}

    def _start(self) -> StartEntry | None:
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
        return max(last_use + self.model.idle_timeout_s, kept, self.model.warm_until(self.now) or 0.0)


def node_dict(node: Node, now: float, *, log_tail: bool = False) -> NodeEntry:
    """A node's entry in the API."""
    entry: NodeEntry = {
        "instance_id": node.id,
        "status": public_word(node.state),
        "instance_type": node.instance_type,
        "zone": node.zone,
        "market": node.market,
        "launched_at": node.launched_at,
        "ready_at": node.ready_at or None,
        "age_s": round(now - node.launched_at, 1),
        "phases": [_record(record) for record in road(node)],
        "running_requests": node.running,
        "reason": node.reason or None,
        "error": _failure_entry(node.error) if node.error else None,
    }
    return {**entry, "log_tail": list(node.log_tail)} if log_tail else entry


def _phase(record: PhaseRecord, boots: Sequence[Boot]) -> PhaseEntry:
    times = usual(boots, record.phase)
    p50_s, p90_s = times or (None, None)
    return {**_record(record), "p50_s": p50_s, "p90_s": p90_s}


# What a node writes about itself, it writes as plain dictionaries: of these shapes.


def _record(record: PhaseRecord) -> PhaseEntry:
    return cast(PhaseEntry, record.to_dict())


def _failure_entry(failure: Failure) -> FailureEntry:
    return cast(FailureEntry, failure.to_dict())


def configuration(model: Model) -> Configuration:
    # They passed the checks of Model.parse, which are of these shapes.
    return {
        "config": cast(ModelConfig, dict(model.config)),
        "override": cast(Overrides, dict(model.override)),
        "effective": cast(ModelConfig, {**model.config, **model.override}),
    }
