"""Who wants how much of what, at one look: people who wait, wishes, the load, warm hours, the budget. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from control_plane.budget import DEPLOYMENT, BudgetState
from control_plane.model import Model
from control_plane.nodes import STARTING, THERE, UNASKED, Cause, Node
from control_plane.policy import Policy, replaced_from
from control_plane.world import World
from gpu_node.protocol import NodeState


class Wants:
    """Answers for one model at a time, by its name."""

    def __init__(self, world: World, now: float, policy: Policy) -> None:
        self._world = world
        self._now = now
        self._policy = policy
        self._of: dict[str, list[Node]] = {}  # nodes by model
        for node in world.nodes:
            self._of.setdefault(node.model, []).append(node)

    def there(self, name: str) -> int:
        """Nodes that serve and stay, or will serve."""
        return len(self.nodes(name, STARTING)) + len(self.sound(name))

    def sound(self, name: str) -> list[Node]:
        """Nodes that serve, and can go on doing so."""
        return [node for node in self.nodes(name, {NodeState.READY}) if self.stays(node)]

    def stays(self, node: Node) -> bool:
        return not node.at_risk and not self.aged(node)

    def aged(self, node: Node) -> bool:
        """Its lifetime ends soon; it would go by itself then."""
        model = self._world.models.get(node.model)
        return model is not None and self._now >= replaced_from(node, model.max_lifetime_s, self._policy)

    def needed(self, model: Model, *, unheard: int = 1) -> int:
        """How many nodes: what starts one more, and what drains one too many, or they would undo each other's work.

        The greater of what the load asks for and what is wished: a wish is a lower bound, which also stands for hours
        (keep-awake). ``unheard`` is taken for the load as long as nothing is known of it.
        """
        wish = self._world.wishes.get(model.name)
        load = self._world.load.get(model.name, unheard)
        return min(max(load, wish.desired if wish else 1), model.max_instances)

    def wanted(self, name: str) -> bool:
        """Shall a start of this model begin, or go on?"""
        if name not in self._world.models or self.asleep(name):
            return False
        if self._world.waiters.get(name) or self.bereft(name) or self._outgrown(name):
            return True
        wish = self._world.wishes.get(name)
        return (wish is not None and wish.hold_until > self._now) or self._warm_since(name) is not None

    def bereft(self, name: str) -> bool:
        """Does a node that has to go work for somebody, or is to be kept, with none to take its place?"""
        if name not in self._of or self.sound(name):
            return False
        return self.succeeds(name) or bool(self._aged(name) and self.kept_awake(name))

    def succeeds(self, name: str) -> bool:
        """Does a node that has to go still work for somebody, who may need its successor any moment?"""
        return self._parting(name) is not None

    def payer(self, name: str) -> Cause:
        """On whose account a start would be: that of the wish; else of the node whose place it takes, or that it joins
        because of the load; else nobody's."""
        wish = self._world.wishes.get(name)
        if wish and wish.hold_until > self._now and wish.cause != UNASKED:
            return wish.cause
        other = self._parting(name) or next(iter(self.sound(name)), None)
        return other.cause if other else UNASKED

    def _parting(self, name: str) -> Node | None:
        """The first node that has to go, and still works for somebody."""
        at_risk = [node for node in self._of.get(name, ()) if node.at_risk and node.ready_at]
        return next(filter(self._at_work, [*at_risk, *self._aged(name)]), None)

    def _aged(self, name: str) -> list[Node]:
        return [node for node in self.nodes(name, {NodeState.READY}) if self.aged(node)]  # drained ones were replaced

    def _at_work(self, node: Node) -> bool:
        if self._world.in_flight.get(node.id):
            return True
        return node.running + node.waiting > 0 and not node.is_ended(self._now)

    def _outgrown(self, name: str) -> bool:
        """Does the load ask for more nodes than serve?"""
        return 0 < len(self.sound(name)) < self._world.load.get(name, 1)

    def kept_awake(self, name: str) -> bool:
        """Keep-awake keeps what runs, and starts nothing; warm hours do both. Neither outlasts the budget."""
        if self.asleep(name) or self.money in (BudgetState.EXHAUSTED, BudgetState.CAPPED):
            return False
        wish = self._world.wishes.get(name)
        kept = wish is not None and wish.keep_awake_until > self._now
        return kept or self._warm_since(name) is not None

    def asleep(self, name: str) -> bool:
        """Put to sleep by hand, and no warm hours began since."""
        wish = self._world.wishes.get(name)
        if wish is None or wish.desired:
            return False
        warm_since = self._warm_since(name)
        return warm_since is None or wish.asked_at >= warm_since

    def _warm_since(self, name: str) -> float | None:
        model = self._world.models.get(name)
        return model.warm_since(self._now) if model else None

    @cached_property
    def money(self) -> BudgetState:
        """How far the deployment's budget is spent."""
        return self._world.budgets.state(DEPLOYMENT) if self._world.budgets else BudgetState.OK

    def nodes(self, name: str, states: Iterable[NodeState]) -> list[Node]:
        return [node for node in self._of.get(name, ()) if node.state in states]


def keeps_warm(world: World | None, now: float) -> bool:
    """Is a node there, or on its way, whose model has its warm hours?"""
    if world is None:
        return False
    there = {node.model for node in world.nodes if node.state in THERE}
    return any(model.name in there and model.warm_since(now) is not None for model in world.models.values())
