"""What a tick looks at: everything that it knows, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control_plane.budget import Budgets
from control_plane.model import Model
from control_plane.nodes import Cause, Node, NodeId
from control_plane.ports import Group, Launch, ModelRow, Wish


@dataclass(frozen=True)
class World:
    """Everything one tick knows."""

    models: Mapping[str, Model]
    history: Mapping[str, ModelRow] = field(default_factory=dict)
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    nodes: Sequence[Node] = ()
    launches: Sequence[Launch] = ()
    launching: frozenset[str] = frozenset()  # models whose launch goes on right now
    groups: Sequence[Group] | None = None  # None: the cloud was not looked at this time
    waiters: Mapping[str, int] = field(default_factory=dict)
    in_flight: Mapping[NodeId, int] = field(default_factory=dict)
    users: Mapping[NodeId, frozenset[Cause]] = field(default_factory=dict)  # whose requests those in flight are
    last_request: Mapping[str, float] = field(default_factory=dict)  # end of each model's last one
    load: Mapping[str, int] = field(default_factory=dict)  # nodes that each model's load asks for
    was_starting: frozenset[NodeId] = frozenset()  # at the tick before
    lost: frozenset[NodeId] = frozenset()  # engines that refused a request and then a probe
    since: float = 0.0  # when this reconciler took over: older streams may be another's
    ousted_at: float = 0.0  # when one was last taken over from that had not let go: its task may still ask new nodes
    budgets: Budgets | None = field(default_factory=Budgets)  # None: what was spent is not known; then nothing is begun
