"""How many nodes a model's load asks for: more when its engines queue, fewer when fewer would do. Pure but for memory.

Judged by what the nodes' agents write into their rows (``vllm:num_requests_running`` and ``…_waiting``, with every
heartbeat): no other way to the nodes is needed, every task and the janitor see the same, and a report that is some
seconds old is new enough for a node that takes minutes to start.

A queue that stays for ``out_s`` asks for one more, and again only when that one is there and the queue stays. What a
node was running while it queued is what one can take; when the load would fit fewer with room to spare, for ``in_s``,
one less is wanted. Between the two nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from gpu_node.protocol import NodeState

ROOM = 0.7  # of what the nodes left could take: fuller than this, the last one stays


@dataclass
class _Load:
    wanted: int = 1
    serving: frozenset[NodeId] = frozenset()  # at the last look
    capacity: int = 1  # requests that one node works on at a time
    queued_since: float | None = None
    light_since: float | None = None


class Demand:
    """Remembers how the load of each model went; a new process begins with what serves."""

    def __init__(self, *, out_s: float, in_s: float) -> None:
        self._out_s = out_s
        self._in_s = in_s
        self._loads: dict[str, _Load] = {}

    def note(self, models: Mapping[str, Model], nodes: Sequence[Node], now: float) -> Mapping[str, int]:
        """Look at the nodes; how many each model's load asks for: at least 1, at most its ``maxInstances``."""
        self._loads = {name: self._loads.get(name, _Load()) for name in models}
        for name, load in self._loads.items():
            mine = [node for node in nodes if node.model == name]
            serving = [node for node in mine if node.state is NodeState.READY and not node.at_risk]
            _follow(load, serving, taken={node.id for node in mine if node.at_risk and _busy(node)})
            self._grow(load, serving, now)
            self._shrink(load, serving, now)
            load.wanted = min(load.wanted, models[name].max_instances)
        return {name: load.wanted for name, load in self._loads.items()}

    def _grow(self, load: _Load, serving: Sequence[Node], now: float) -> None:
        queueing = [node.running for node in serving if node.waiting]
        if not queueing:
            load.queued_since = None
            return
        load.capacity = max(1, *queueing)
        if load.queued_since is None or len(serving) < load.wanted:  # one is on its way
            load.queued_since = now
        elif now >= load.queued_since + self._out_s:
            load.wanted, load.queued_since = len(serving) + 1, now

    def _shrink(self, load: _Load, serving: Sequence[Node], now: float) -> None:
        busy = sum(map(_busy, serving))
        light = load.wanted > 1 and not load.queued_since and busy <= ROOM * load.capacity * (load.wanted - 1)
        if not light:
            load.light_since = None
        elif load.light_since is None:
            load.light_since = now
        elif now >= load.light_since + self._in_s:
            load.wanted, load.light_since = load.wanted - 1, now
            load.serving -= {sorted(serving, key=lambda node: node.ready_at)[-1].id}  # it goes


def _busy(node: Node) -> int:
    """Requests, as its agent last told."""
    return node.running + node.waiting


def _follow(load: _Load, serving: Sequence[Node], *, taken: Set[NodeId]) -> None:
    """More that serve are kept for now, whoever wanted them; one that left is not asked for again, but for what AWS
    took back while it worked."""
    now = frozenset(node.id for node in serving)
    if not now:
        load.queued_since = load.light_since = None
    if len(now) > len(load.serving):
        load.wanted = max(load.wanted, len(now))
    else:
        load.wanted = max(load.wanted - len(load.serving - now - taken), 1)
    load.serving = now
