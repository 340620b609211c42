"""Which nodes a hard cap ends: all of them, or those that only accounts beyond theirs still want. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from control_plane.budget import DEPLOYMENT, BudgetState
from control_plane.nodes import Cause, Node
from control_plane.world import World

ALL = "the deployment's budget has reached its hard cap"
OF_ITS_USERS = "whoever still wants it has reached a hard cap"


class Caps:
    """Of one tick.

    A node is wanted by who uses it right now, and by who asked for its model a moment ago; and while nobody does, by
    who pays for its idle time. Keep-awake and warm hours want it as well, but its idle time is not on their account:
    beyond its payer's cap it goes, and what wants one then starts another on its own. Who waits was let in below the
    cap, and is served. Where others are at work whose account is not known here, it is left alone: their own task
    knows them.
    """

    def __init__(self, world: World, now: float) -> None:
        self._world = world
        self._now = now

    def reason(self, node: Node) -> str:
        """Why it has to drain; empty where no cap says so."""
        budgets = self._world.budgets
        if budgets is None:
            return ""
        if budgets.state(DEPLOYMENT) is BudgetState.CAPPED:
            return ALL
        if self._world.waiters.get(node.model) or self._strangers(node):
            return ""
        wanting = set(self._wanting(node)) or {_payer(node)}
        return OF_ITS_USERS if all(map(budgets.use_refused, wanting)) else ""

    def _strangers(self, node: Node) -> bool:
        known = self._world.in_flight.get(node.id, 0)
        return node.running + node.waiting > known or bool(known and not self._world.users.get(node.id))

    def _wanting(self, node: Node) -> Iterator[Cause]:
        yield from self._world.users.get(node.id, ())
        wish = self._world.wishes.get(node.model)
        if wish and wish.desired and wish.hold_until > self._now:
            yield wish.cause


def _payer(node: Node) -> Cause:
    """Whose its idle time is. A start on speculation that was used was none, as far as this goes."""
    return replace(node.cause, speculative=node.cause.speculative and not node.last_request_at)
