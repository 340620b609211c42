"""A world for ``plan``: one model, its nodes, its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from control_plane.actions import Action, Hold, Renew
from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from control_plane.plan import plan
from control_plane.policy import Policy
from control_plane.ports import Group, Instance, ModelRow, Wish
from control_plane.world import World
from gpu_node.protocol import Failure, NodeState

NOW = 10_000.0
POLICY = Policy()
NAME = "org/model"
CONFIG = {"name": NAME, "instanceTypes": ["g5.xlarge"], "idleTimeout": 300}
MODEL = Model.parse(CONFIG)
CRASH = Failure("node_lost", "It went away.")
BROKEN = Failure("engine_crashed", "It crashed.", "See its last lines.")
GATED = Failure("gated_model", "It is gated.", permanent=True)


def node(state: NodeState = NodeState.READY, name: str = "i-1", **changes: object) -> Node:
    base = Node(
        NodeId(name), NAME, state, "group", "a", "g5.xlarge", "on-demand",
        launched_at=NOW - 100, lease_until=NOW + 290, heartbeat_at=NOW - 5, ip="10.0.0.1",
    )  # fmt: skip
    if state in (NodeState.READY, NodeState.DRAINING):
        base = replace(base, ready_at=NOW - 50)
    if state is NodeState.DRAINING:
        base = replace(base, draining_since=NOW - 10)
    return replace(base, **changes)  # type: ignore[arg-type]


def wish(**changes: object) -> Wish:
    return replace(Wish(NAME, 1, NOW + 120, "ann@example.com", NOW - 1, version=1), **changes)  # type: ignore[arg-type]


def group(*instances: Instance) -> Group:
    return Group("group", NAME, "on-demand", ("a",), 9, len(instances), instances)


def instance(name: str = "i-1", **changes: object) -> Instance:
    return replace(Instance(NodeId(name), "a", "g5.xlarge", alive=True), **changes)  # type: ignore[arg-type]


def held(name: str = "i-1") -> Instance:
    """Its group takes it down, and waits until it is released."""
    return instance(name, alive=False, leaving=True, held=True)


def actions(*nodes: Node, **world: object) -> Sequence[Action]:
    """What is done; leases are looked at by the tests that are about leases."""
    full = World(**{"models": {NAME: MODEL}, "history": {NAME: ModelRow(NAME, CONFIG)}, "nodes": nodes, **world})  # type: ignore[arg-type]
    return [action for action in plan(full, NOW, POLICY) if not isinstance(action, Renew | Hold)]


def kinds(*nodes: Node, **world: object) -> list[type]:
    return [type(action) for action in actions(*nodes, **world)]
