"""Planted bugs: one guard of the real code taken away each.

Where another guard makes up for the one that is gone, as it shall, that one is taken away as well: see ``also``.
"""

from __future__ import annotations

from tests.simulation.front_mutants import FRONT
from tests.simulation.planting import Change, Mutant

MUTANTS: tuple[Mutant, ...] = (
    *FRONT,
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
        "reconciler that lost its epoch goes on",
        "control_plane.reconciler",
        "            raise Superseded from error",
        "            return self._term",
        ("reconciler", "stream"),
    ),
    Mutant(
        "epoch is taken from one who is at work",
        "control_plane.reconciler",
        "await self._fence.take_over(self._holder, silent_s=ABANDONED_S)",
        "await self._fence.take(self._holder)",
        ("reconciler",),
        also=(
            Change(
                "control_plane.reconciler",
                "        if self._clock() - await self._fence.seen_at() < ABANDONED_S:\n",
                "        if False:\n",
            ),
        ),
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
        "function tells of a ladder that it did not walk to its end",
        "control_plane.app",
        "            hands_on=not self._streams,\n",
        "",
        ("wish",),
        # Four places refuse in less than its time, as a rule.
        also=(Change("control_plane.app", "FUNCTION_LAUNCH_S = 20.0", "FUNCTION_LAUNCH_S = 8.0"),),
    ),
    Mutant(
        "node that told of itself before its launch was heard of is nobody's",
        "control_plane.plan",
        "            yield Claim(launch, own)\n",
        "            yield Abandon(launch)\n",
        ("money",),
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
        "yield Adopt(group, instance, cause) if instance.alive else Evict(instance)",
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
        "slot is neither given back nor runs out",
        "control_plane.holds",
        "            if not full:",
        "            if False:",
        ("wish",),
        also=(Change("control_plane.holds", "LASTS_S = 60.0", "LASTS_S = 1e6"),),
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
