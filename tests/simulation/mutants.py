"""Planted bugs: one guard of the real code taken away each, as a change of its source before it is imported.

``expected`` names the invariants of which one catches it; empty: none does, and ``why`` says what makes up for it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType


@dataclass(frozen=True)
class Mutant:
    """``old`` stands exactly once in the module's source."""

    name: str
    module: str
    old: str
    new: str
    expected: Sequence[str]
    why: str = ""


MUTANTS = (
    Mutant(
        "reconciler drains no idle node",
        "control_plane.plan",
        'return None if self._busy(node) or self._awake(node) else Drain(node, "idle")',
        "return None",
        ("node", "rest"),
    ),
    Mutant(
        "janitor looks after no nodes",
        "control_plane.janitor",
        "acted = await ControlPlane(settings, outside, clock=clock).reconciler.once()",
        "acted = False",
        ("node", "rest"),
    ),
    Mutant(
        "node ignores its lease",
        "gpu_node.lease",
        "overdue_s = now - orders.lease_until - policy.grace_s",
        "overdue_s = -1.0",
        ("node", "rest"),
    ),
    Mutant(
        "listener turns to a task that is not healthy",
        "control_plane.front",
        "yield from _facing(stage, control_plane=healthy)",
        "yield from _facing(stage, control_plane=True)",
        ("front", "wish"),
    ),
    Mutant(
        "task that died is not turned away from",
        "control_plane.front",
        "yield from _facing(stage, control_plane=healthy)",
        "yield from _facing(stage, control_plane=healthy or stage.facing_control_plane)",
        ("front", "wish"),
    ),
    Mutant(
        "task sleeps on a stream",
        "control_plane.slumber",
        "self._busy = busy",
        "self._busy = lambda: False",
        ("stream", "wish"),
    ),
    Mutant(
        "task ends before the listener's turn arrived",
        "control_plane.slumber",
        "now >= self._turned_at + self._propagation_s",
        "now >= self._turned_at",
        ("wish", "stream"),
    ),
    Mutant(
        "task that was just told to end is faced",
        "control_plane.front",
        "stays = front.state is FrontState.AWAKE or now >= front.since + LINGER_S",
        "stays = True",
        ("wish", "stream", "front"),
    ),
    Mutant(
        "listener's turn is taken for granted",
        "control_plane.slumber",
        "            self._turned_at = self._clock()\n        if busy",
        "            self._turned_at = front.since\n        if busy",
        ("wish", "stream"),
    ),
    Mutant(
        "count that should be 0 is not mended",
        "control_plane.front",
        "            if stage.desired:\n                yield Want(0)",
        "",
        ("rest",),
    ),
    Mutant(
        "fall that nobody ends is not ended",
        "control_plane.front",
        "if now > front.since + FALL_LIMIT_S:",
        "if False:",
        (),
        "ECS starts the task again, and that one takes the fall back or ends it",
    ),
    Mutant(
        "task that sleeps is not woken",
        "control_plane.front",
        "        case FrontState.ASLEEP if wanted:\n            yield Move(FrontState.WAKING)  # 1\n",
        "",
        ("wish", "node"),
    ),
    Mutant(
        "reconciler that lost its epoch goes on",
        "control_plane.reconciler",
        "            raise Superseded from error",
        "            return",
        ("reconciler",),
    ),
    Mutant(
        "epoch is taken from one who is at work",
        "control_plane.reconciler",
        "await self._fence.take_over(self._holder, silent_s=ABANDONED_S)",
        "await self._fence.take(self._holder)",
        (),
        "the one at work stands by and acts again; what both began is repeated or drained",
    ),
    Mutant(
        "launch leaves no intent",
        "control_plane.launcher",
        "            await self._launches.intend(launch)\n",
        "",
        ("reconciler",),
    ),
    Mutant(
        "launch is repeated under a new token",
        "control_plane.launcher",
        "instance = await self._cloud.launch(launch)",
        "instance = await self._cloud.launch(Launch(self._token(), *list(vars(launch).values())[1:]))",
        ("reconciler",),
    ),
    Mutant(
        "launches under way are not counted",
        "control_plane.plan",
        "        if name in self._world.launching:\n            return\n",
        "",
        (),
        "one launch a model goes on at a time in the reconciler itself, and its intent is counted",
    ),
    Mutant(
        "intents are not counted",
        "control_plane.plan",
        "coming = self._there(name) + sum(launch.model == name for launch in self._world.launches)",
        "coming = self._there(name)",
        ("reconciler",),
    ),
    Mutant(
        "late intent is launched though its place is taken",
        "control_plane.plan",
        " and self._lacking(launch) else",
        " else",
        ("reconciler",),
    ),
    Mutant(
        "launch is tried before any group is known",
        "control_plane.reconciler",
        "if self._observer.groups is not None:",
        "if True:",
        ("wish",),
    ),
    Mutant(
        "drain waits for no request",
        "control_plane.plan",
        "if self._busy(node) and self._now < deadline:",
        "if False:",
        ("stream",),
    ),
    Mutant(
        "drain trusts a report from before it",
        "control_plane.plan",
        " or self._untold(node)\n",
        "\n",
        ("stream",),
    ),
    Mutant(
        "task that is told to stop tells nobody",
        "control_plane.app",
        "                await self._slumber.last_look()\n",
        "                pass\n",
        ("wish",),
    ),
    Mutant(
        "sleep that overwrote a wish is not told",
        "control_plane.plan",
        "before = max(wish.asked_at, self._now - ASK_S)",
        "before = wish.asked_at",
        ("wish",),
    ),
    Mutant(
        "instance without a row is left alone",
        "control_plane.plan",
        "yield Adopt(group, instance) if instance.alive else Evict(instance)",
        "yield from ()",
        (),
        "its intent is repeated, or its agent writes the row",
    ),
    Mutant(
        "night watch writes no wish",
        "control_plane.routes.asleep",
        "        await self._wishes.ask(Wish(",
        "        (Wish(",
        ("wish",),
    ),
    Mutant(
        "control plane writes no wish",
        "control_plane.relay",
        "            await self._ask_until_heard(call, exchange, waiter)\n",
        "",
        (),
        "who waits counts as a wish; Hold writes it at the next tick",
    ),
    Mutant(
        "those who wait are not told why not",
        "control_plane.effects",
        "self._fleet.refuse(model, failure, before=before)",
        "pass",
        ("wish",),
    ),
)


def mutant(name: str) -> Mutant:
    return next(one for one in MUTANTS if one.name == name)


class _Loader(SourceFileLoader):
    planted: Mutant

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        if source.count(self.planted.old) != 1:
            raise AssertionError(f"{self.planted.name}: its place in {fullname} is gone, or not the only one")
        return compile(source.replace(self.planted.old, self.planted.new), self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, planted: Mutant) -> None:
        self._planted = planted

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._planted.module:
            return None
        found = PathFinder.find_spec(fullname, path)
        assert found
        assert found.origin
        loader = _Loader(fullname, found.origin)
        loader.planted = self._planted
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def plant(planted: Mutant) -> None:
    """From here on the module is imported with the bug. It must not be imported yet."""
    if planted.module in sys.modules:
        raise AssertionError(f"{planted.module} is imported already")
    sys.meta_path.insert(0, _Finder(planted))
