"""A GPU node as the control plane knows it: its row, its states, the moves between them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

from gpu_node.protocol import ENGINE_PORT, Failure, NodeState, Phase, PhaseRecord

NodeId = NewType("NodeId", str)
"""The EC2 instance id."""

MOVES: dict[NodeState, frozenset[NodeState]] = {
    NodeState.PENDING: frozenset({NodeState.BOOTING, NodeState.DRAINING, NodeState.FAILED}),
    NodeState.BOOTING: frozenset({NodeState.READY, NodeState.DRAINING, NodeState.FAILED}),
    NodeState.READY: frozenset({NodeState.DRAINING, NodeState.FAILED}),
    NodeState.DRAINING: frozenset({NodeState.TERMINATED, NodeState.FAILED}),
    NodeState.FAILED: frozenset({NodeState.TERMINATED}),
    NodeState.TERMINATED: frozenset(),
}
"""Every legal move. PENDING and BOOTING go to DRAINING when a start is cancelled."""

ENDED_AFTER_S = 15.0
"""So long after AWS takes a node back, or its agent last spoke, an agent that lives has spoken again."""

STARTING = frozenset({NodeState.PENDING, NodeState.BOOTING})
LEAVING = frozenset({NodeState.DRAINING, NodeState.FAILED})
THERE = STARTING | {NodeState.READY}  # it serves, or will

_PUBLIC_WORDS = {NodeState.PENDING: "starting", NodeState.BOOTING: "starting"}


def public_word(state: NodeState) -> str:
    """The state in the words of the API: starting, ready, draining, failed, terminated."""
    return _PUBLIC_WORDS.get(state, str(state))


NOBODY = "deployment"
"""Who pays for what nobody asked for: an adopted instance, warm hours, a control plane that idles."""


@dataclass(frozen=True)
class Cause:
    """On whose account something runs while nobody uses it."""

    owner: str = NOBODY  # an email address
    key: str = ""  # the id of an API key; empty: signed in by browser, or nobody's
    speculative: bool = False  # a model was picked, and nothing asked yet


UNASKED = Cause()
"""On nobody's account."""


@dataclass(frozen=True)
class Node:
    """One row of the ``instances`` table. Times are Unix seconds; 0 means not yet."""

    id: NodeId
    model: str
    state: NodeState
    group: str
    zone: str
    instance_type: str
    market: str
    launched_at: float
    lease_until: float
    ready_at: float = 0.0
    draining_since: float = 0.0
    last_request_at: float = 0.0
    heartbeat_at: float = 0.0
    terminated_at: float = 0.0
    ip: str = ""
    phases: Sequence[PhaseRecord] = ()
    running: int = 0
    waiting: int = 0
    interruption_at: float = 0.0  # when AWS takes this Spot instance back
    rebalance_at: float = 0.0  # when AWS said that it may
    log_tail: Sequence[str] = ()
    error: Failure | None = None
    reason: str = ""  # why it drains, or was taken down
    cause: Cause = UNASKED  # who pays for its start and its idle time
    micro_usd_per_hour: int = 0  # instance, root volume and address; as it was at the launch
    launch_micro_usd: int = 0  # once, for a root volume that is fast at once

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the engine."""
        return self.ip, ENGINE_PORT

    @property
    def at_risk(self) -> bool:
        """AWS takes it back, or may."""
        return bool(self.interruption_at or self.rebalance_at)

    def is_ended(self, now: float) -> bool:
        """AWS was to take it back, and its agent has been silent since: what that last said holds no more."""
        return self.interruption_at > 0 and now > max(self.interruption_at, self.heartbeat_at) + ENDED_AFTER_S

    @property
    def phase(self) -> PhaseRecord:
        """The phase it is in, or was in last."""
        return self.phases[-1] if self.phases else PhaseRecord(Phase.INSTANCE, self.launched_at)
