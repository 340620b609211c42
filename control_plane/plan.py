"""What to do next, decided from one look at the world. Pure: no I/O, no clock, no log.

``plan`` answers the actions of one tick. Every rule carries its number in the code:

 Nodes, each by itself
  1. The cloud no longer has it (looked, and not just launched): bury it if it was leaving, else it is lost.
  2. FAILED: take its instance down; count the failure once if it never became ready.
  3. DRAINING: take it down when its last request ended, or at the drain deadline.
     Taking down (2, 3) is two steps: terminate the instance, unless its group does so already; and where the group
     holds it for its drain, release it, again and again until it is gone.
  4. Starting (PENDING, BOOTING): cancel it when nobody wants the model any more, or its group takes it down; fail it
     when the instance never spoke, fell silent, or is slower than the boot limit.
  5. READY: note how long the start took; fail it when its engine does not answer; drain it when its group takes it
     down, when its agent fell silent, when the model idled for its idle timeout, was put to sleep by hand or is no
     longer configured, or when there are more than wanted (the youngest goes first).
  6. Whatever stays gets its lease renewed, and with it the time of its last use; nothing else keeps a node alive.

 Models, each by itself
  7. A failure that still stands starts nothing: it refuses everyone who waits, and takes the wish back. While another
     node serves, only the wish is taken back.
  8. No longer configured, or put to sleep by hand: who still waits is told so.
  9. A wish that has its nodes is fulfilled; idle time is counted from here on.
 10. Wanted, and fewer nodes (counting those on their way) than wanted: launch one. Waiters keep their wish alive.

 The cloud
 11. An unsettled launch is repeated with its own token while its node is wanted and lacking, else abandoned: rule 12
     finds its instance.
 12. A living instance of ours without a row is adopted; one that died in its group is taken out of it; one that its
     group holds is released.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from control_plane.actions import (
    Abandon,
    Action,
    Adopt,
    Bury,
    CountFailure,
    Drain,
    Evict,
    Fail,
    Fulfil,
    Hold,
    NoteStart,
    Refuse,
    Release,
    Renew,
    Repeat,
    Start,
    Terminate,
)
from control_plane.boots import boot_of
from control_plane.failures import (
    BY_HAND,
    ENGINE_LOST,
    LOST,
    SILENT,
    asleep_failure,
    never_spoke,
    not_configured,
    too_slow,
)
from control_plane.model import Model
from control_plane.nodes import LEAVING, STARTING, Node, NodeId
from control_plane.ports import Group, Launch, ModelRow, Wish
from gpu_node.protocol import Failure, NodeState

LAUNCH_VISIBLE_S = 60.0  # a new instance may be missing from the cloud's answer this long
TOKEN_LIFE_S = 600.0  # an unsettled launch older than this is not repeated
HOLD_EVERY_S = 15.0  # the wish of those who wait is renewed this often, so the grace after them is that much shorter
FAILURES_IN_A_ROW = 2  # so many failed starts stop further tries until somebody asks again
MAX_BACKOFF_S = 3600.0
FAILURE_STREAK_S = 4 * MAX_BACKOFF_S  # failures further apart than this are not in a row
ASK_S = 10.0  # from the beginning of a wait until its wish stands in the table
OTHERS_NOTICE_S = 10.0  # from the drain of a node until no task sends it anything and its engine tells what it has
USE_EVERY_S = 15.0  # the time of the last use is written this often: after a restart it is that much too old at most
_TAKEN = "its group takes it down"


@dataclass(frozen=True)
class Policy:
    """How patient to be; seconds."""

    lease_s: float = 300.0
    drain_timeout_s: float = 300.0
    boot_limit_s: float = 1200.0
    claim_limit_s: float = 300.0
    silent_node_s: float = 90.0
    cancel_grace_s: float = 120.0
    failure_memory_s: float = 90.0


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
    last_request: Mapping[str, float] = field(default_factory=dict)  # end of each model's last one
    was_starting: frozenset[NodeId] = frozenset()  # at the tick before
    lost: frozenset[NodeId] = frozenset()  # engines that refused a request and then a probe
    since: float = 0.0  # when this reconciler took over: older streams may be another's
    ousted_at: float = 0.0  # when one was last taken over from that had not let go: its task may still ask new nodes


def plan(world: World, now: float, policy: Policy) -> list[Action]:
    """The actions of this tick, in an order in which they may be taken at the same time."""
    return list(_Planner(world, now, policy).actions())


def standing_failure(history: ModelRow | None, now: float, policy: Policy) -> Failure | None:
    """The failure that still keeps this model from being started, if one does.

    A refused launch (it counts no failed start) and a first permanent failure stand for the failure memory. A first
    start that failed for a passing reason does not stand, it is tried again at once; from the second in a row on it
    stands for the memory, then four times as long, and so on. From the second permanent one on, nothing is tried
    until the configuration changes or somebody asks by hand: each try would buy a GPU to learn the same.
    """
    if history is None or history.failure is None:
        return None
    failure, in_a_row = history.failure, history.failures
    if in_a_row >= FAILURES_IN_A_ROW and failure.permanent:
        return replace(failure, fix=f"{failure.fix} It failed {in_a_row} times in a row: {BY_HAND}".strip())
    if in_a_row == 1 and not failure.permanent:
        return None
    stands_s = min(policy.failure_memory_s * 4 ** max(0, in_a_row - FAILURES_IN_A_ROW), MAX_BACKOFF_S)
    if now >= history.failed_at + stands_s:
        return None
    if in_a_row < FAILURES_IN_A_ROW:
        return failure
    left_s = history.failed_at + stands_s - now
    return replace(failure, fix=f"It failed {in_a_row} times in a row: the next try is possible in {left_s:.0f} s.")


class _Planner:
    """One tick's decision; holds what the rules share."""

    def __init__(self, world: World, now: float, policy: Policy) -> None:
        self._world = world
        self._now = now
        self._policy = policy
        self._in_cloud = {one.id: one for group in world.groups or () for one in group.instances}
        self._group_of = {one.id: group for group in world.groups or () for one in group.instances}

    def actions(self) -> Iterator[Action]:
        surplus = self._surplus()
        for node in self._world.nodes:
            yield from self._node(node, surplus=node.id in surplus)
        for name in sorted(self._world.models):
            yield from self._model(name)
        yield from self._removed()
        for launch in self._world.launches:
            if launch.model not in self._world.launching:
                yield self._unsettled(launch)
        for group in self._world.groups or ():
            yield from self._strangers(group)

    # -- nodes

    def _node(self, node: Node, *, surplus: bool) -> Iterator[Action]:
        if self._uncounted(node):
            yield from self._count(node)  # 2; its row is the only record of the failure, so the burial waits a tick
            if self._gone(node):
                return
        if self._gone(node):  # 1
            yield Bury(node) if node.state in LEAVING else Fail(node, LOST)
        elif node.state is NodeState.FAILED:  # 2
            yield from self._taking_down(node)
        elif node.state is NodeState.DRAINING:  # 3
            yield from self._draining(node)
        else:
            if node.state is NodeState.READY and node.id in self._world.was_starting:
                yield from self._note(node)
            verdict = self._starting(node) if node.state in STARTING else self._ready(node, surplus=surplus)  # 4, 5
            yield from [verdict] if verdict else self._renewal(node)  # 6

    def _note(self, node: Node) -> Iterator[Action]:
        model, history = self._world.models.get(node.model), self._world.history.get(node.model)
        if model and history:
            yield NoteStart(node.model, boot_of(node, model, history.boots))

    def _gone(self, node: Node) -> bool:
        if self._world.groups is None:
            return False
        instance = self._in_cloud.get(node.id)
        if instance is None:
            return node.state in LEAVING or self._now > node.launched_at + LAUNCH_VISIBLE_S
        return not instance.alive and not instance.leaving and node.state not in LEAVING

    def _count(self, node: Node) -> Iterator[Action]:
        history = self._world.history.get(node.model)
        if history and node.error and self._uncounted(node):
            in_a_row = self._now < history.failed_at + FAILURE_STREAK_S
            count = history.failures + 1 if in_a_row else 1
            yield CountFailure(node.model, node.error, count, tuple(node.log_tail))

    def _uncounted(self, node: Node) -> bool:
        """Its start failed, and the history does not say so yet."""
        history = self._world.history.get(node.model)
        failed_start = node.state is NodeState.FAILED and node.error is not None and not node.ready_at
        return failed_start and history is not None and history.failed_at <= node.launched_at

    def _draining(self, node: Node) -> Iterator[Action]:
        deadline = node.draining_since + self._policy.drain_timeout_s
        if self._busy(node) and self._now < deadline:
            yield from self._renewal(node)
        else:
            yield from self._taking_down(node)

    def _taking_down(self, node: Node) -> Iterator[Action]:
        instance = self._in_cloud.get(node.id)
        if instance is None or not instance.leaving:
            yield Terminate(node)
        elif instance.held:
            yield Release(self._group_of[node.id], instance)

    def _taken(self, node: Node) -> bool:
        """Its group takes it down: it was told to have fewer instances, or is being deleted."""
        instance = self._in_cloud.get(node.id)
        return instance is not None and instance.leaving

    def _busy(self, node: Node) -> bool:
        if self._world.in_flight.get(node.id, 0):
            return True
        # Another task's streams, from before we took over, show only in what the engine says of itself.
        foreign = self._now < self._world.since + self._policy.drain_timeout_s
        if not foreign or self._silent(node):
            return False
        return node.running + node.waiting > 0 or self._untold(node)

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
        if not self._wanted(node.model) and not self._kept_awake(node.model):
            return Drain(node, "start cancelled: nobody waits for it any more")
        if self._taken(node):
            return Drain(node, _TAKEN)
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
        if self._taken(node):
            return Drain(node, _TAKEN)
        if self._silent(node):
            return Drain(node, "its agent fell silent")
        if surplus:
            return Drain(node, "more nodes than wanted")
        if node.model not in self._world.models:
            return Drain(node, "its model is no longer configured")
        if self._asleep(node.model):
            return Drain(node, "put to sleep by hand")
        return None if self._busy(node) or self._awake(node) else Drain(node, "idle")

    def _awake(self, node: Node) -> bool:
        """Is a ready node that does nothing still to be kept?"""
        if self._world.waiters.get(node.model) or self._kept_awake(node.model):
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
            ready = [node for node in self._nodes(name, {NodeState.READY}) if not self._taken(node)]
            ready.sort(key=lambda node: node.ready_at)
            wish = self._world.wishes.get(name)
            wanted = min(model.max_instances, wish.desired or model.max_instances) if wish else model.max_instances
            surplus += [node.id for node in ready[wanted:]]
        return frozenset(surplus)

    # -- models

    def _removed(self) -> Iterator[Action]:  # 8
        for name in sorted({*self._world.wishes, *self._world.waiters} - self._world.models.keys()):
            yield Refuse(name, not_configured(name), self._world.wishes.get(name))

    def _model(self, name: str) -> Iterator[Action]:
        wish = self._world.wishes.get(name)
        waiters = self._world.waiters.get(name, 0)
        failure = standing_failure(self._world.history.get(name), self._now, self._policy)
        serving = len(self._nodes(name, {NodeState.READY}))
        if failure and not serving:  # 7
            if waiters or self._wanted(name):
                yield Refuse(name, failure, wish)
        elif wish and failure and self._wanted(name):  # 7
            yield Fulfil(wish)
        elif wish and self._asleep(name):  # 8
            if waiters:  # whoever asked after that means it; unless their wish was written first, and overwritten
                before = max(wish.asked_at, self._now - ASK_S)
                yield Refuse(name, asleep_failure(name), None, before=before)
        elif wish and serving >= wish.desired and not self._kept_awake(name):  # 9
            yield Fulfil(wish)
        elif self._wanted(name):  # 10
            yield from self._growth(name, wish, waiters)

    def _growth(self, name: str, wish: Wish | None, waiters: int) -> Iterator[Action]:
        model = self._world.models.get(name)
        if model is None:
            return
        if waiters and (wish is None or wish.hold_until < self._now + self._policy.cancel_grace_s - HOLD_EVERY_S):
            held = wish or Wish(name, desired=1, hold_until=0.0, by="", asked_at=self._now)
            yield Hold(replace(held, hold_until=self._now + self._policy.cancel_grace_s))
        if name in self._world.launching:
            return
        coming = self._there(name) + sum(launch.model == name for launch in self._world.launches)
        if any(self._uncounted(node) for node in self._nodes(name, {NodeState.FAILED})):
            return  # whether to try again depends on what is being counted in this very tick
        if coming < self._needed(model):
            yield Start(name)

    def _there(self, name: str) -> int:
        """Nodes that serve, or will."""
        return len(self._nodes(name, STARTING | {NodeState.READY}))

    def _needed(self, model: Model) -> int:
        wish = self._world.wishes.get(model.name)
        return min(max(1, wish.desired if wish else 1), model.max_instances)

    def _wanted(self, name: str) -> bool:
        """Shall a start of this model begin, or go on?"""
        if name not in self._world.models or self._asleep(name):
            return False
        if self._world.waiters.get(name):
            return True
        wish = self._world.wishes.get(name)
        return wish is not None and wish.hold_until > self._now

    def _kept_awake(self, name: str) -> bool:
        """Keep-awake keeps what runs; it starts nothing."""
        wish = self._world.wishes.get(name)
        return wish is not None and wish.desired > 0 and wish.keep_awake_until > self._now

    def _asleep(self, name: str) -> bool:
        wish = self._world.wishes.get(name)
        return wish is not None and wish.desired == 0

    def _nodes(self, name: str, states: Iterable[NodeState]) -> list[Node]:
        return [node for node in self._world.nodes if node.model == name and node.state in states]

    # -- the cloud

    def _unsettled(self, launch: Launch) -> Action:  # 11
        fresh = self._now < launch.at + TOKEN_LIFE_S
        return Repeat(launch) if fresh and self._wanted(launch.model) and self._lacking(launch) else Abandon(launch)

    def _lacking(self, launch: Launch) -> bool:
        """An intent that was believed not to be written may show after another took its place."""
        older = [one for one in self._world.launches if one.model == launch.model and one.at < launch.at]
        return self._there(launch.model) + len(older) < self._needed(self._world.models[launch.model])

    def _strangers(self, group: Group) -> Iterator[Action]:  # 12
        known = {node.id for node in self._world.nodes}
        for instance in group.instances:
            if instance.id in known:
                continue
            if instance.held:
                yield Release(group, instance)
            elif not instance.leaving:
                yield Adopt(group, instance) if instance.alive else Evict(instance)
