"""What to do next, decided from one look at the world. Pure: no I/O, no clock, no log.

``plan`` answers the actions of one tick. Every rule carries its number in the code:

 Nodes, each by itself
  1. The cloud no longer has it (looked, and not just launched): bury it if it was leaving, else it is lost.
  2. FAILED: take its instance down; count the failure once if it never became ready, or died soon after it did.
  3. DRAINING: take it down when its last request ended, as far as we and its engine know, or at the drain deadline.
     One that AWS takes back is taken out of its group at once, which would replace it by itself else; it serves until
     AWS ends it, and shortly before hands over what can be continued elsewhere.
     Taking down (2, 3) is two steps: terminate the instance, unless its group does so already; and where the group
     holds it for its drain, release it, again and again until it is gone.
  4. Starting (PENDING, BOOTING): cancel it when nobody wants the model any more, or its group takes it down; fail it
     when the instance never spoke, fell silent, or is slower than the boot limit.
  5. READY: note how long the start took, and forgive the failures before it once it has served for minutes; fail it
     when its engine does not answer; drain it when AWS takes it back, or may and another serves, when its lifetime ends
     soon and another serves, when its group takes it down, when its agent fell silent, when the model idled for its
     idle timeout, was put to sleep by hand or is not configured, or when more are there than wanted (youngest first).
  6. Whatever stays gets its lease renewed, and with it the time of its last use; nothing else keeps a node alive.

 Models, each by itself
  7. A failure that still stands starts nothing: it refuses everyone who waits, and takes the wish back. While another
     node serves, only the wish is taken back.
  8. No longer configured, or put to sleep by hand: who still waits is told so.
  9. A wish that has its nodes is fulfilled; idle time is counted from here on.
  10. Wanted, and fewer nodes (counting those on their way, but not those that AWS wants back) than wanted: launch one,
      unless a budget forbids it: what is spent, what runs or was just begun until it has idled out, and this start must
      fit below the limit. Wanted is the most of what a wish, warm hours and the load ask for (5 drains to it), and a
      replacement while a node that AWS wants back is at work, which idles out no sooner. Waiters, and such work, keep
      their wish alive. Warm hours keep what runs, as long as the deployment's budget lasts.

 Money
  Beyond the hard cap of the deployment everything drains; beyond that of a person, a key, or of starts on speculation
  what nobody else wants (4, 5: see caps.py).

 The cloud
 11. An unsettled launch is repeated with its own token while its node is wanted and lacking, and no failure stands.
     Else it says whose the node is that told of itself before its launch was heard of. It is abandoned once another
     took its place, or once its instance would show: until then it says whose that is (12), which is found some time.
 12. A living instance of ours without a row is adopted, on the account of a launch there whose end nobody knows; one
     that died in its group is taken out of it; one that its group holds is released.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from control_plane.actions import (
    Abandon,
    Action,
    Adopt,
    Bury,
    Claim,
    Drain,
    Evict,
    Fail,
    Forgive,
    Fulfil,
    HandOver,
    Hold,
    Refuse,
    Release,
    Renew,
    Repeat,
    Start,
    Terminate,
)
from control_plane.caps import Caps
from control_plane.commitments import Commitments
from control_plane.failures import (
    ENGINE_LOST,
    LOST,
    OUTLIVED,
    REPLACED,
    SILENT,
    TAKEN_BACK,
    asleep_failure,
    never_spoke,
    not_configured,
    too_slow,
)
from control_plane.model import Model
from control_plane.nodes import LEAVING, STARTING, Node, NodeId
from control_plane.policy import Policy, standing_failure
from control_plane.ports import Group, Launch, ModelRow, Wish, wish_of
from control_plane.starts import count, may_be_of, note, outlasts, uncounted, whose
from control_plane.wants import Wants
from control_plane.world import World
from gpu_node.protocol import Failure, NodeState

LAUNCH_VISIBLE_S = 60.0  # a new instance may be missing from the cloud's answer this long
TOKEN_LIFE_S = 600.0  # an unsettled launch older than this is not repeated
HOLD_EVERY_S = 15.0  # the wish of those who wait is renewed this often, so the grace after them is that much shorter
ASK_S = 10.0  # from the beginning of a wait until its wish stands in the table
OTHERS_NOTICE_S = 10.0  # from the drain of a node until no task sends it anything and its engine tells what it has
HAND_OVER_S = 20.0  # before AWS takes a node back, what can be continued elsewhere leaves it
LATE_S = 30.0  # AWS may be so late
USE_EVERY_S = 15.0  # the time of the last use is written this often: after a restart it is that much too old at most
_TAKEN = "its group takes it down"


def plan(world: World, now: float, policy: Policy) -> list[Action]:
    """The actions of this tick, in an order in which they may be taken at the same time."""
    return list(_Planner(world, now, policy).actions())


class _Planner:
    """One tick's decision; holds what the rules share."""

    def __init__(self, world: World, now: float, policy: Policy) -> None:
        self._world = world
        self._now = now
        self._policy = policy
        self._in_cloud = {one.id: one for group in world.groups or () for one in group.instances}
        self._group_of = {one.id: group for group in world.groups or () for one in group.instances}
        self._wants = Wants(world, now, policy)
        self._money = Commitments(world, policy.sizes)
        self._caps = Caps(world, now)
        self._counting: set[str] = set()

    def actions(self) -> Iterator[Action]:
        surplus = self._surplus()
        for node in self._world.nodes:
            yield from self._node(node, surplus=node.id in surplus)
        for name in sorted(self._world.models):
            yield from self._model(name)
        yield from self._removed()
        for launch in (one for one in self._world.launches if one.model not in self._world.launching):
            yield from self._unsettled(launch)
        for group in self._world.groups or ():
            yield from self._strangers(group)

    # -- nodes

    def _node(self, node: Node, *, surplus: bool) -> Iterator[Action]:
        history = self._world.history.get(node.model)
        if history and (counted := count(node, history, self._now)):
            if node.model not in self._counting:  # 2; one a tick, for the next one in a row counts on from it
                self._counting.add(node.model)
                yield counted
            if self._gone(node):
                return  # its row is the only record of the failure: the burial waits
        if self._gone(node):  # 1
            yield Bury(node) if node.state in LEAVING else Fail(node, LOST)
        elif node.state is NodeState.FAILED:  # 2
            yield from self._taking_down(node)
        elif node.state is NodeState.DRAINING:  # 3
            yield from self._draining(node)
        else:
            if node.state is NodeState.READY and history:
                yield from self._noted(node, history)
            verdict = self._starting(node) if node.state in STARTING else self._ready(node, surplus=surplus)  # 4, 5
            yield from [verdict] if verdict else self._renewal(node)  # 6

    def _noted(self, node: Node, history: ModelRow) -> Iterator[Action]:
        """What a node that is ready says of its model's starts."""
        model = self._world.models.get(node.model)
        if model and node.id in self._world.was_starting:
            yield note(node, model, history)
        elif node.id not in self._world.lost and outlasts(node, history):
            yield Forgive(node.model, history.failed_at)

    def _gone(self, node: Node) -> bool:
        if self._world.groups is None:
            return False
        instance = self._in_cloud.get(node.id)
        if instance is None:
            return node.state in LEAVING or self._now > node.launched_at + LAUNCH_VISIBLE_S
        return not instance.alive and not instance.leaving and node.state not in LEAVING

    def _draining(self, node: Node) -> Iterator[Action]:
        if node.interruption_at and self._now < node.interruption_at + LATE_S and self._busy(node):
            yield from self._taken_back(node)
            return
        if self._busy(node) and self._now < self._drain_deadline(node):
            yield from self._renewal(node)
        else:
            yield from self._taking_down(node)

    def _drain_deadline(self, node: Node) -> float:
        deadline = node.draining_since + self._policy.drain_timeout_s
        model = self._world.models.get(node.model)
        if model is None or node.reason != OUTLIVED:
            return deadline
        return max(deadline, node.launched_at + model.max_lifetime_s)  # it was replaced in good time

    def _taken_back(self, node: Node) -> Iterator[Action]:
        yield from self._renewal(node)
        instance = self._in_cloud.get(node.id)
        if instance is not None and not instance.leaving:
            yield Terminate(node)
        if self._now >= node.interruption_at - HAND_OVER_S and self._world.in_flight.get(node.id):
            yield HandOver(node)

    def _taking_down(self, node: Node) -> Iterator[Action]:
        instance = self._in_cloud.get(node.id)
        if instance is None or not instance.leaving:
            yield Terminate(node)
        elif instance.held:
            yield Release(self._group_of[node.id], instance)

    def _died(self, node: Node) -> bool:
        """Its machine is off: what its agent last said of its engine holds no more."""
        instance = self._in_cloud.get(node.id)
        return instance is not None and not instance.alive and not instance.leaving

    def _taken(self, node: Node) -> bool:
        """Its group takes it down: it was told to have fewer instances, or is being deleted."""
        instance = self._in_cloud.get(node.id)
        return instance is not None and instance.leaving

    def _busy(self, node: Node) -> bool:
        if self._world.in_flight.get(node.id, 0):
            return True
        if self._silent(node) or self._died(node) or node.is_ended(self._now):
            return False
        # Another task's streams show only in what the engine says of itself. That is believed for a while after we took
        # over; and of a node that drains, whose deadline bounds it.
        foreign = self._now < self._world.since + self._policy.drain_timeout_s
        at_work = node.running + node.waiting > 0 and (foreign or node.state is NodeState.DRAINING)
        return at_work or (foreign and self._untold(node))

    def _untold(self, node: Node) -> bool:
        """Another task may still have sent it a request when its engine last said what it works on."""
        if node.state is not NodeState.DRAINING or not node.ready_at:
            return False
        ousted = self._now < self._world.ousted_at + self._policy.drain_timeout_s
        known = ousted or node.ready_at < self._world.since
        return known and node.heartbeat_at < node.draining_since + OTHERS_NOTICE_S

    def _silent(self, node: Node) -> bool:
        return self._now > max(node.heartbeat_at, node.launched_at) + self._policy.silent_node_s

    def _starting(self, node: Node) -> Action | None:
        age = self._now - node.launched_at
        if node.interruption_at:
            return Drain(node, TAKEN_BACK)
        if not self._wants.wanted(node.model) and not self._wants.kept_awake(node.model):
            return Drain(node, "start cancelled: nobody waits for it any more")
        if self._taken(node):
            return Drain(node, _TAKEN)
        if reason := self._caps.reason(node):
            return Drain(node, reason)
        if node.state is NodeState.PENDING and age > self._policy.claim_limit_s:
            return Fail(node, never_spoke(age))
        if age > self._policy.boot_limit_s:
            return Fail(node, too_slow(node, age))
        if node.state is NodeState.BOOTING and self._silent(node):
            return Fail(node, SILENT)
        return None

    def _ready(self, node: Node, *, surplus: bool) -> Action | None:
        if node.id in self._world.lost:
            return Fail(node, ENGINE_LOST)
        if reason := self._wanted_back(node):
            return Drain(node, reason)
        if self._silent(node):
            return Drain(node, "its agent fell silent")
        if reason := self._caps.reason(node):
            return Drain(node, reason)
        if node.model not in self._world.models:
            return Drain(node, "its model is no longer configured")
        if self._wants.asleep(node.model):
            return Drain(node, "put to sleep by hand")
        if surplus:
            return Drain(node, "more nodes than wanted")
        return None if self._busy(node) or self._awake(node) else Drain(node, "idle")

    def _wanted_back(self, node: Node) -> str:
        """Why it cannot stay, whatever we want; empty when it can."""
        if node.interruption_at:
            return TAKEN_BACK
        if node.rebalance_at and self._wants.sound(node.model):
            return REPLACED
        if self._wants.aged(node) and self._wants.sound(node.model):
            return OUTLIVED
        return _TAKEN if self._taken(node) else ""

    def _awake(self, node: Node) -> bool:
        """Is a ready node that does nothing still to be kept?"""
        wants = self._wants
        if self._world.waiters.get(node.model) or wants.kept_awake(node.model) or wants.succeeds(node.model):
            return True
        return self._now < self._last_use(node) + self._world.models[node.model].idle_timeout_s

    def _last_use(self, node: Node) -> float:
        return max(node.ready_at, node.last_request_at, self._world.last_request.get(node.model, 0.0))

    def _renewal(self, node: Node) -> Iterator[Action]:
        last_request_at = max(node.last_request_at, self._world.last_request.get(node.model, 0.0))
        if self._world.in_flight.get(node.id):
            last_request_at = self._now
        short = node.lease_until < self._now + self._policy.lease_s / 2
        if short or last_request_at > node.last_request_at + USE_EVERY_S:
            yield Renew(node, self._now + self._policy.lease_s, last_request_at)

    def _surplus(self) -> frozenset[NodeId]:
        surplus: list[NodeId] = []
        for name, model in self._world.models.items():
            ready = [node for node in self._wants.nodes(name, {NodeState.READY}) if not self._taken(node)]
            if len(ready) < 2:  # one at least is always needed
                continue
            ready.sort(key=lambda node: (not self._wants.stays(node), node.ready_at))  # what goes anyway counts last
            surplus += [node.id for node in ready[self._wants.needed(model, unheard=model.max_instances) :]]
        return frozenset(surplus)

    # -- models

    def _removed(self) -> Iterator[Action]:  # 8
        for name in sorted({*self._world.wishes, *self._world.waiters} - self._world.models.keys()):
            yield Refuse(name, not_configured(name), self._world.wishes.get(name))

    def _model(self, name: str) -> Iterator[Action]:
        wish = self._world.wishes.get(name)
        waiters = self._world.waiters.get(name, 0)
        failure = self._standing(name)
        serving = len(self._wants.nodes(name, {NodeState.READY}))
        if failure and not serving:  # 7
            if waiters or (wish and self._wants.wanted(name)):
                yield Refuse(name, failure, wish)
        elif wish and failure and self._wants.wanted(name):  # 7
            yield Fulfil(wish)
        elif wish and self._wants.asleep(name):  # 8
            if waiters:  # whoever asked after that means it; unless their wish was written first, and overwritten
                before = max(wish.asked_at, self._now - ASK_S)
                yield Refuse(name, asleep_failure(name), None, before=before)
        elif wish and len(self._wants.sound(name)) >= wish.desired and not self._wants.kept_awake(name):  # 9
            yield Fulfil(wish)
        elif self._wants.wanted(name):  # 10
            yield from self._growth(name, wish, waited_for=bool(waiters) or self._wants.bereft(name))

    def _growth(self, name: str, wish: Wish | None, *, waited_for: bool) -> Iterator[Action]:
        model = self._world.models.get(name)
        if model is None:
            return
        if waited_for and (wish is None or wish.hold_until < self._now + self._policy.cancel_grace_s - HOLD_EVERY_S):
            held = wish or wish_of(self._wants.payer(name), name, now=self._now)
            yield Hold(replace(held, hold_until=self._now + self._policy.cancel_grace_s))
        if name in self._world.launching:
            return
        coming = self._wants.there(name) + sum(launch.model == name for launch in self._world.launches)
        history = self._world.history.get(name)
        if any(uncounted(node, history) for node in self._wants.nodes(name, {NodeState.FAILED})):
            return  # whether to try again depends on what is being counted in this very tick
        if coming < self._wants.needed(model):
            yield from self._start(model, wish, waited_for=waited_for)

    def _start(self, model: Model, wish: Wish | None, *, waited_for: bool) -> Iterator[Action]:
        if self._world.budgets is None:
            return
        cause = self._wants.payer(model.name)
        still_s = {node.id: max(0.0, self._idles_out_at(node) - self._now) for node in self._world.nodes}
        failure = self._world.budgets.start_refused(cause, self._money.of_start(model), self._money.begun(still_s))
        if failure is None:
            self._money.promise(model, cause)
            yield Start(model.name, cause)
        elif waited_for and not self._wants.there(model.name):
            yield Refuse(model.name, failure, wish)
        elif wish:
            yield Fulfil(wish)

    def _idles_out_at(self, node: Node) -> float:
        model = self._world.models.get(node.model)
        if model is None or node.state in LEAVING:
            return self._now
        if node.state in STARTING:
            ready_at = max(node.launched_at + self._money.boot_s(node.model), self._now)  # it may be slower than usual
            return ready_at + model.idle_timeout_s
        return (self._now if self._busy(node) else self._last_use(node)) + model.idle_timeout_s

    def _standing(self, name: str) -> Failure | None:
        return standing_failure(self._world.history.get(name), self._now, self._policy)

    # -- the cloud

    def _unsettled(self, launch: Launch) -> Iterator[Action]:  # 11
        wanted = self._wants.wanted(launch.model)
        lacking = wanted and self._lacking(launch)
        fresh = self._now < launch.at + TOKEN_LIFE_S and not self._standing(launch.model)
        if lacking and fresh:
            yield Repeat(launch)
        elif own := next((node for node in self._world.nodes if may_be_of(launch, node)), None):
            yield Claim(launch, own)
        elif (wanted and not lacking) or self._now >= launch.at + LAUNCH_VISIBLE_S:
            yield Abandon(launch)

    def _lacking(self, launch: Launch) -> bool:
        """An intent that was believed not to be written may show after another took its place."""
        older = [one for one in self._world.launches if one.model == launch.model and one.at < launch.at]
        return self._wants.there(launch.model) + len(older) < self._wants.needed(self._world.models[launch.model])

    def _strangers(self, group: Group) -> Iterator[Action]:  # 12
        known = {node.id for node in self._world.nodes}
        for instance in (one for one in group.instances if one.id not in known):
            if instance.held:
                yield Release(group, instance)
            elif not instance.leaving:
                cause = whose(instance, group, self._world.launches)
                yield Adopt(group, instance, cause) if instance.alive else Evict(instance)
