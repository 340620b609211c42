"""Planted bugs: one guard of the real code taken away each, as a change of its source before it is imported.

Where another guard makes up for the one that is gone, as it shall, that one is taken away as well: see ``also``.
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
class Change:
    """``old`` stands exactly once in the module's source."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """``expected`` names the invariants of which one catches it; ``also`` what would make up for it."""

    name: str
    module: str
    old: str
    new: str
    expected: Sequence[str]
    also: Sequence[Change] = ()

    @property
    def changes(self) -> Sequence[Change]:
        return (Change(self.module, self.old, self.new), *self.also)


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
        "acted = await control_plane.reconciler.once(launches=not spared)",
        "acted = False",
        ("node", "rest"),
    ),
    Mutant(
        "node ignores its lease",
        "gpu_node.lease",
        "overdue_s = now - situation.lease_ends_at - policy.grace_s",
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
        "stays = front.state is FrontState.AWAKE or now >= front.since + linger_s",
        "stays = True",
        ("wish", "stream", "front"),
        also=(  # it turns the listener back at its end
            Change("control_plane.slumber", "for _ in range(LAST_LOOKS):", "for _ in range(0):"),
        ),
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
        "fall is ended neither by its task nor by its limit",
        "control_plane.front",
        "if now > front.since + FALL_LIMIT_S:",
        "if False:",
        ("rest", "front"),
        also=(
            Change(
                "control_plane.slumber",
                "        await self._keeper.move(front, FrontState.ASLEEP)\n",
                "        return\n",
            ),
        ),
    ),
    Mutant(
        "task that sleeps is not woken",
        "control_plane.front",
        "        case FrontState.ASLEEP if wanted and not resting(front, now):\n"
        "            yield from _woken(front, stage)  # 1\n",
        "",
        ("wish", "node"),
    ),
    Mutant(
        "reconciler that lost its epoch goes on",
        "control_plane.reconciler",
        "            raise Superseded from error",
        "            return self._term",
        ("reconciler",),
    ),
    Mutant(
        "epoch is taken from one who is at work",
        "control_plane.reconciler",
        "await self._fence.take_over(self._holder, silent_s=ABANDONED_S)",
        "await self._fence.take(self._holder)",
        ("reconciler",),
    ),
    Mutant(
        "launch leaves no intent",
        "control_plane.launcher",
        "        await self._launches.intend(launch)\n",
        "",
        ("reconciler",),
    ),
    Mutant(
        "launch is repeated under a new token",
        "control_plane.launcher",
        "return await self._cloud.launch(launch)",
        "return await self._cloud.launch(Launch(self._token(), *list(vars(launch).values())[1:]))",
        ("reconciler",),
    ),
    Mutant(
        "launches under way are not counted, and one model has several",
        "control_plane.plan",
        "        if name in self._world.launching:\n            return\n",
        "",
        ("reconciler",),
        also=(
            Change("control_plane.reconciler", "        if model not in self._launching:\n", "        if True:\n"),
            Change("control_plane.reconciler", "del self._launching[model]", "self._launching.pop(model, None)"),
        ),
    ),
    Mutant(
        "intents are not counted",
        "control_plane.plan",
        "coming = self._wants.there(name) + sum(launch.model == name for launch in self._world.launches)",
        "coming = self._wants.there(name)",
        ("reconciler",),
    ),
    Mutant(
        "late intent is launched though its place is taken",
        "control_plane.plan",
        " and self._lacking(launch)\n",
        "\n",
        ("reconciler",),
    ),
    Mutant(
        "launch is tried before any group is known",
        "control_plane.reconciler",
        "known = self._observer.groups is not None",
        "known = True",
        ("wish",),
    ),
    Mutant(
        "answer that AWS cuts off is not continued",
        "control_plane.spot_stream",
        "        if self._sent and self._sent.rest() is not None:\n            self.whole_story",
        "        if False:\n            self.whole_story",
        ("wish", "stream"),
    ),
    Mutant(
        "answer that goes on elsewhere begins anew",
        "control_plane.continuation",
        "return _chat(request, said) if self._dialect is CHAT else _completion(request, said)",
        "return request",
        ("stream",),
    ),
    Mutant(
        "answer that goes on elsewhere has another's name",
        "control_plane.continuation",
        "        payload |= self._head\n",
        "",
        ("stream",),
    ),
    Mutant(
        "answer that goes on elsewhere says its role again",
        "control_plane.continuation",
        '            said.pop("role", None)\n',
        "            pass\n",
        ("stream",),
    ),
    Mutant(
        "node that AWS takes back stays in its group",
        "control_plane.plan",
        "            yield Terminate(node)\n        if self._now >= node",
        "            pass\n        if self._now >= node",
        ("node",),
    ),
    Mutant(
        "load asks for more than the model may have",
        "control_plane.wants",
        "return min(max(load, wish.desired if wish else 1), model.max_instances)",
        "return max(load, wish.desired if wish else 1)",
        ("reconciler",),
        also=(Change("control_plane.demand", "load.wanted = min(load.wanted, models[name].max_instances)", "pass"),),
    ),
    Mutant(
        "drain waits for no request",
        "control_plane.plan",
        "if self._busy(node) and self._now < self._drain_deadline(node):",
        "if False:",
        ("stream",),
    ),
    Mutant(
        "drain trusts a report from before it",
        "control_plane.plan",
        "        return at_work or (foreign and self._untold(node))\n",
        "        return at_work\n",
        ("stream",),
    ),
    Mutant(
        "drain forgets the task that was ousted",
        "control_plane.plan",
        "known = ousted or node.ready_at < self._world.since",
        "known = node.ready_at < self._world.since",
        ("stream",),
    ),
    Mutant(
        "budget is asked for a start neither at the door nor by the plan",
        "control_plane.plan",
        "        if failure is None:\n            self._money.promise",
        "        if True:\n            self._money.promise",
        ("money",),
        also=(
            Change(
                "control_plane.spending",
                "            failure = budgets.start_refused(cause, start_cost(model, usual_start_s, self.sizes))\n",
                "            failure = None\n",
            ),
        ),
    ),
    Mutant(
        "who is beyond a hard cap is served all the same",
        "control_plane.budget",
        "            if standing.state is BudgetState.CAPPED:\n",
        "            if False:\n",
        ("money",),
    ),
    Mutant(
        "budget of a person is not asked for",
        "control_plane.budget",
        '        found.append(f"user:{cause.owner}")\n',
        "        pass\n",
        ("money",),
    ),
    Mutant(
        "ladder ends with its first market",
        "control_plane.launcher",
        "for market in model.market.ladder:",
        "for market in model.market.ladder[:1]:",
        ("wish",),
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
        ("rest", "node"),
    ),
    Mutant(
        "night watch writes no wish",
        "control_plane.routes.asleep",
        "if await self._wishes.ask(Wish(model.name, 1, hold_until, caller.email, now, key=caller.key_id)):",
        "if True:",
        ("wish",),
    ),
    Mutant(
        "control plane writes no wish, and its reconciler holds none",
        "control_plane.relay",
        "            await self._ask_until_heard(call, exchange, waiter)\n",
        "",
        ("wish",),
        also=(
            Change(
                "control_plane.plan",
                "            yield Hold(replace(held, hold_until=self._now + self._policy.cancel_grace_s))\n",
                "            yield from ()\n",
            ),
        ),
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
        for change in self.planted.changes:
            if change.module == fullname:
                if source.count(change.old) != 1:
                    raise AssertionError(f"{self.planted.name}: its place in {fullname} is gone, or not the only one")
                source = source.replace(change.old, change.new)
        return compile(source, self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, planted: Mutant) -> None:
        self._planted = planted
        self._modules = {change.module for change in planted.changes}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        found = PathFinder.find_spec(fullname, path)
        assert found
        assert found.origin
        loader = _Loader(fullname, found.origin)
        loader.planted = self._planted
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def plant(planted: Mutant) -> None:
    """From here on its modules are imported with the bug. They must not be imported yet."""
    for change in planted.changes:
        if change.module in sys.modules:
            raise AssertionError(f"{change.module} is imported already")
    sys.meta_path.insert(0, _Finder(planted))
