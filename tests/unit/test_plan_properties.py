"""Whatever happens, in whatever order: no node outlives its reason, no request is cut before its drain deadline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.actions import (
    Action,
    Adopt,
    Bury,
    CountFailure,
    Drain,
    Evict,
    Fail,
    Forgive,
    Fulfil,
    Hold,
    NoteStart,
    Refuse,
    Release,
    Renew,
    Start,
    Terminate,
)
from control_plane.model import Model
from control_plane.nodes import MOVES, Node, NodeId
from control_plane.plan import plan
from control_plane.policy import Policy
from control_plane.ports import Group, Instance, ModelRow, Wish
from control_plane.world import World
from gpu_node.lease import Halt, LeasePolicy, Situation, decide
from gpu_node.protocol import DRAIN_HOOK_S, Failure, NodeState, Orders

NAME = "org/model"
CONFIG = {"name": NAME, "instanceTypes": ["g5.xlarge"], "idleTimeout": 300, "maxInstances": 2}
MODEL = Model.parse(CONFIG)
POLICY = Policy()
LEASES = LeasePolicy()
SLACK_S = 300.0  # beyond idle timeout and drain: the bound that the architecture promises
ALONE_S = 600.0  # more, with the node's lease as the only guard
TICK_S = 5.0
RELEASED_S = 3 * TICK_S  # an idle node that its group holds goes within this

EVENTS = (
    "nothing", "nothing", "ask", "ask", "hang up", "speak", "boot", "boot", "end", "end", "end",
    "crash", "fail boot", "vanish", "silence", "take out",
    "scale 2", "sleep", "keep awake", "orphan", "refuse launches", "allow launches", "stop ticking", "tick again",
)  # fmt: skip


@dataclass
class Sim:
    """One model, its nodes and its cloud, moved by events; the real ``plan`` and the real ``decide`` act."""

    hooked: bool = True  # its group holds what it takes out
    now: float = 1_000_000.0
    ticking: bool = True
    ticking_since: float = 0.0
    refusing: bool = False
    wish: Wish | None = None
    history: ModelRow = field(default_factory=lambda: ModelRow(NAME, CONFIG))
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    alive: dict[NodeId, bool] = field(default_factory=dict)  # what the cloud lists
    held: dict[NodeId, float] = field(default_factory=dict)  # since when its group waits with its end
    busy_at: dict[NodeId, float] = field(default_factory=dict)  # last seen with requests
    silent: set[NodeId] = field(default_factory=set)
    waiters: int = 0
    events: int = 0
    in_flight: dict[NodeId, int] = field(default_factory=dict)
    last_request: float = 0.0
    launches: list[float] = field(default_factory=list)  # when each was tried
    was_starting: frozenset[NodeId] = frozenset()
    excused_until: float = 0.0  # until then, somebody's wish explains a node

    # -- events

    def happen(self, event: str) -> None:
        self.events += 1
        getattr(self, "_on_" + event.replace(" ", "_"))()

    def _on_nothing(self) -> None:
        pass

    def _on_ask(self) -> None:
        if not self.ticking:
            return  # nobody is there to take a request
        ready = self._in(NodeState.READY)
        if ready:
            self.in_flight[ready[0].id] = self.in_flight.get(ready[0].id, 0) + 1
        else:
            self.waiters += 1
            self._wish(1, POLICY.cancel_grace_s)

    def _on_hang_up(self) -> None:
        self.waiters = max(0, self.waiters - 1)

    def _on_speak(self) -> None:
        for node in self._in(NodeState.PENDING)[:1]:
            self._set(node, NodeState.BOOTING)

    def _on_boot(self) -> None:
        for node in self._in(NodeState.PENDING, NodeState.BOOTING)[:1]:
            self.nodes[node.id] = replace(node, state=NodeState.READY, ready_at=self.now, heartbeat_at=self.now)
            self.excused_until = max(self.excused_until, self.now + MODEL.idle_timeout_s)
            if self.ticking and self.waiters:
                self.in_flight[node.id] = self.in_flight.get(node.id, 0) + self.waiters
                self.waiters = 0

    def _on_end(self) -> None:
        for node_id in [one for one, count in self.in_flight.items() if count][:1]:
            self.in_flight[node_id] -= 1
            self.last_request = self.now

    def _on_crash(self) -> None:
        for node in self._in(NodeState.READY, NodeState.DRAINING)[:1]:
            self.in_flight.pop(node.id, None)
            self._set(node, NodeState.FAILED, error=Failure("engine_crashed", "x"))

    def _on_fail_boot(self) -> None:
        for node in self._in(NodeState.PENDING, NodeState.BOOTING)[:1]:
            self._set(node, NodeState.FAILED, error=Failure("engine_crashed", "x"))

    def _on_vanish(self) -> None:
        for node_id in list(self.alive)[:1]:
            self.alive[node_id] = False  # it stays in its group's count
            self.in_flight.pop(node_id, None)

    def _on_take_out(self) -> None:
        for node_id in [one for one in self.alive if one not in self.held][:1]:
            if not self.hooked:
                self.in_flight.pop(node_id, None)
            self._take_out(node_id)

    def _on_silence(self) -> None:
        self.silent.update(list(self.alive)[:1])

    def _on_scale_2(self) -> None:
        self._wish(2, POLICY.boot_limit_s)

    def _on_sleep(self) -> None:
        self.wish = Wish(NAME, 0, 0.0, "ann", self.now)

    def _on_keep_awake(self) -> None:
        asked = self.wish or Wish(NAME, 1, 0.0, "ann", self.now)
        self.wish = replace(asked, keep_awake_until=self.now + 900)
        self.excused_until = max(self.excused_until, self.now + 900)

    def _on_orphan(self) -> None:
        self.alive[NodeId(f"i-{len(self.nodes) + 100}")] = True

    def _on_refuse_launches(self) -> None:
        self.refusing = True

    def _on_allow_launches(self) -> None:
        self.refusing = False

    def _on_stop_ticking(self) -> None:
        self.ticking = False
        self.waiters = 0
        self.in_flight.clear()
        self.last_request = 0.0

    def _on_tick_again(self) -> None:
        if not self.ticking:
            self.ticking, self.ticking_since = True, self.now

    # -- time

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_S
            self._agents()
            self._end_of_patience()
            if self.ticking:
                self._tick()
            self._check()

    def _agents(self) -> None:
        for node in list(self.nodes.values()):
            if not self.alive.get(node.id) or node.id in self.silent:
                continue
            self.nodes[node.id] = node = replace(node, heartbeat_at=self.now)
            busy = bool(self.in_flight.get(node.id))
            orders = Orders(node.state, node.lease_until)
            at = node.launched_at
            now = Situation(at, at, busy, orders=orders, lease_ends_at=orders.lease_until, read_at=self.now)
            verdict = decide(now, self.now, LEASES)
            if isinstance(verdict, Halt):
                self._halt(node.id)

    def _halt(self, node_id: NodeId) -> None:
        """Off, at worst without a word to its group, which then waits in vain."""
        self.in_flight.pop(node_id, None)
        if self.hooked:
            self.alive[node_id] = False
            self.held.setdefault(node_id, self.now)
        else:
            self._end(node_id)

    def _end_of_patience(self) -> None:
        for node_id, since in list(self.held.items()):
            if self.now >= since + DRAIN_HOOK_S:
                if node_id in self.nodes:
                    self._no_request_is_cut(self.nodes[node_id])
                self._end(node_id)

    def _end(self, node_id: NodeId) -> None:
        self.alive.pop(node_id, None)
        self.held.pop(node_id, None)

    def _tick(self) -> None:
        if self.waiters or any(self.in_flight.values()):
            self.excused_until = max(self.excused_until, self.now + MODEL.idle_timeout_s)
        for action in plan(self._world(), self.now, POLICY):
            self._apply(action)
        self.was_starting = frozenset(node.id for node in self._in(NodeState.PENDING, NodeState.BOOTING))

    def _world(self) -> World:
        instances = tuple(self._instance(node_id) for node_id in self.alive)
        return World(
            models={NAME: MODEL},
            history={NAME: self.history},
            wishes={NAME: self.wish} if self.wish else {},
            nodes=[node for node in self.nodes.values() if node.state is not NodeState.TERMINATED],
            groups=[Group("group", NAME, "on-demand", ("a",), 9, len(instances), instances)],
            waiters={NAME: self.waiters} if self.waiters else {},
            in_flight={one: count for one, count in self.in_flight.items() if count},
            last_request={NAME: self.last_request} if self.last_request else {},
            was_starting=self.was_starting,
        )

    def _instance(self, node_id: NodeId) -> Instance:
        held = node_id in self.held
        return Instance(node_id, "a", "g5.xlarge", self.alive[node_id] and not held, leaving=held, held=held)

    def _apply(self, action: Action) -> None:  # noqa: C901 - one case an action
        match action:
            case Start():
                self._launch()
            case Adopt(_, instance):
                self._row(instance.id)
            case Drain(node, reason):
                self._set(node, NodeState.DRAINING, draining_since=self.now, reason=reason)
            case Fail(node, failure):
                assert failure.code != "node_lost" or not self.alive.get(node.id), "it is up: its requests go on"
                self.in_flight.pop(node.id, None)
                self._set(node, NodeState.FAILED, error=failure)
            case Terminate(node):
                self._no_request_is_cut(node)
                self._take_out(node.id)
            case Evict(instance):
                self._take_out(instance.id)
            case Release(_, instance):
                assert instance.id in self.held
                if instance.id in self.nodes:
                    self._no_request_is_cut(self.nodes[instance.id])
                self._end(instance.id)
            case Bury(node):
                self._set(node, NodeState.TERMINATED)
            case Renew(node, lease_until):
                self.nodes[node.id] = replace(self.nodes[node.id], lease_until=lease_until)
            case CountFailure(_, node_id, failure, count):
                assert node_id not in self.history.counted
                counted = (*self.history.counted, node_id)
                self.history = replace(
                    self.history, failures=count, failure=failure, failed_at=self.now, counted=counted
                )
            case Refuse():
                self.waiters, self.wish = 0, None
            case Fulfil():
                self.wish = None
            case Hold(wish):
                self.wish = wish
            case NoteStart(forgives=True):
                self.history = replace(self.history, failures=0, failure=None, refusal=None)
            case Forgive(_, failed_at):
                assert (self.history.failed_at, self.history.failure is None) == (failed_at, False)
                self.history = replace(self.history, failures=0, failure=None, refusal=None)

    def _take_out(self, node_id: NodeId) -> None:
        assert node_id not in self.held, "terminated twice: that may take another node along"
        if not self.hooked:
            self._end(node_id)
        elif node_id in self.alive:
            self.held[node_id] = self.now

    def _launch(self) -> None:
        self.launches.append(self.now)
        if self.refusing:
            refused = Failure("no_gpu_capacity", "x")
            self.history = replace(self.history, refusal=refused, refused_at=self.now)
            return
        node_id = NodeId(f"i-{len(self.nodes) + 1}")
        self.alive[node_id] = True
        self._row(node_id)

    def _row(self, node_id: NodeId) -> None:
        self.nodes[node_id] = Node(
            node_id, NAME, NodeState.PENDING, "group", "a", "g5.xlarge", "on-demand",
            launched_at=self.now, lease_until=self.now + POLICY.lease_s, heartbeat_at=self.now,
        )  # fmt: skip

    def _wish(self, desired: int, hold_s: float) -> None:
        kept = self.wish.keep_awake_until if self.wish else 0.0
        self.wish = Wish(NAME, desired, self.now + hold_s, "ann", self.now, keep_awake_until=kept)
        self.history = replace(self.history, failures=0, failure=None, refusal=None)
        self.excused_until = max(self.excused_until, self.now + hold_s)

    def _set(self, node: Node, state: NodeState, **changes: object) -> None:
        row = self.nodes[node.id]
        if state in MOVES[row.state]:
            self.nodes[node.id] = replace(row, state=state, **changes)  # type: ignore[arg-type]

    def _in(self, *states: NodeState) -> list[Node]:
        return [node for node in self.nodes.values() if node.state in states and self.alive.get(node.id)]

    # -- what must hold

    def _no_request_is_cut(self, node: Node) -> None:
        if self.in_flight.get(node.id):
            assert self.now >= node.draining_since + POLICY.drain_timeout_s > POLICY.drain_timeout_s, node

    def _check(self) -> None:
        tried = sum(at > self.now - POLICY.failure_memory_s for at in self.launches)
        assert tried <= 3 * MODEL.max_instances + self.events, "a hot loop of launches"
        bound = POLICY.drain_timeout_s + SLACK_S + (0.0 if self.ticking else ALONE_S)
        for node_id, alive in self.alive.items():
            if alive and node_id in self.nodes and node_id not in self.silent:
                born = self.nodes[node_id].launched_at
                assert self.now <= max(self.excused_until, born) + bound, self.nodes[node_id]
        if self.ticking:
            self._check_held()

    def _check_held(self) -> None:
        self.busy_at |= {node_id: self.now for node_id, count in self.in_flight.items() if count}
        for node_id, since in self.held.items():
            idle_since = max(since, self.ticking_since, self.busy_at.get(node_id, 0.0))
            assert self.now <= idle_since + RELEASED_S, f"{node_id} is kept waiting for nothing"


def ran(events: list[tuple[str, float]], *, hooked: bool) -> Sim:
    """After these events, and a time after each."""
    sim = Sim(hooked)
    for event, seconds in events:
        sim.happen(event)
        sim.pass_time(seconds)
    return sim


steps = st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from([5.0, 30.0, 120.0, 1000.0])), max_size=30)


@settings(max_examples=300)
@given(steps, st.booleans())
def test_no_schedule_of_events_leaks_a_node_or_cuts_a_request(events: list[tuple[str, float]], hooked: bool) -> None:
    ran(events, hooked=hooked)


@settings(max_examples=150)
@given(steps, st.booleans())
def test_when_demand_ends_everything_goes_and_nothing_is_forgotten(
    events: list[tuple[str, float]], hooked: bool
) -> None:
    sim = ran(events, hooked=hooked)
    sim.happen("tick again")
    sim.waiters = 0
    sim.in_flight.clear()
    sim.pass_time(POLICY.boot_limit_s + MODEL.idle_timeout_s + POLICY.drain_timeout_s + SLACK_S)
    assert sim.alive == {}
    assert {node.state for node in sim.nodes.values()} <= {NodeState.TERMINATED}


@settings(max_examples=150)
@given(steps, st.booleans())
def test_with_nobody_reconciling_the_leases_alone_take_every_node_down(
    events: list[tuple[str, float]], hooked: bool
) -> None:
    sim = ran(events, hooked=hooked)
    sim.happen("stop ticking")
    sim.pass_time(POLICY.lease_s + LEASES.grace_s + TICK_S)
    assert not [one for one in sim.alive if sim.alive[one] and one in sim.nodes and one not in sim.silent]


@settings(max_examples=200)
@given(steps, st.booleans())
def test_who_waits_is_served_or_refused_once_machines_boot(events: list[tuple[str, float]], hooked: bool) -> None:
    sim = ran(events, hooked=hooked)
    sim.happen("tick again")
    for _ in range(40):  # a start may first have to fail and be counted, then boots
        sim.pass_time(60.0)
        sim.happen("boot")
    assert sim.waiters == 0
