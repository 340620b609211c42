"""What was done, in words, as events. Bookkeeping is none: leases, estimates, wishes that got what they asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from control_plane.actions import (
    Abandon,
    Adopt,
    Bury,
    Claim,
    CountFailure,
    Done,
    Drain,
    Evict,
    Fail,
    Forgive,
    Fulfil,
    HandOver,
    Hold,
    NoteStart,
    Refuse,
    Release,
    Renew,
    Repeat,
    Start,
    Terminate,
)
from control_plane.budget import Budgets, BudgetState, Standing, dollars
from control_plane.event import Event, EventKind, EventValue
from control_plane.event_log import EventLog
from control_plane.front import Face, Move, Step, Want
from control_plane.nodes import Node, NodeId
from control_plane.ports import Ending, EventStore
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord

RECALLED = 500
"""Entries in which the phases of what starts right now must stand, if they were told before."""

_AGAIN = frozenset({EventKind.NODE_TERMINATING, EventKind.NODE_RELEASED})
"""What is done again at every tick until the cloud agrees, and told once a node."""

_READY = "ready"
_FAILED = "failed"

_BUDGET: Mapping[BudgetState, tuple[EventKind, str]] = {
    BudgetState.WARN: (EventKind.BUDGET_WARNED, "four fifths are gone"),
    BudgetState.EXHAUSTED: (EventKind.BUDGET_REACHED, "nothing more is started on it"),
    BudgetState.CAPPED: (EventKind.BUDGET_EXCEEDED, "what runs on it is stopped"),
}
"""Of each state beyond OK: how it is told, and what follows."""


class Chronicle:
    """Tells the log what this process does, sees and is asked for."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._repeated: set[tuple[EventKind, NodeId]] = set()
        self._seen: set[tuple[NodeId, str]] | None = None  # a node and its phase, told; None: not recalled yet
        self._spent: set[str] = set()  # names of what stands in the log of budgets: see ``_budget``

    # -- what was done

    def acted(self, done: Done) -> None:
        """A reconciler's action took effect, or a launch was refused."""
        match done.action:
            case Drain() | Fail() | Terminate() | Bury():
                self._node(done.action)
            case Adopt() | Evict() | Release():
                self._instance(done.action)
            case Start(model=model):
                self._launch(model, done)
            case Repeat(launch) | Claim(launch):
                self._launch(launch.model, done)
            case Abandon() | Refuse() | CountFailure():
                self._given_up(done.action)
            case Renew() | Hold() | NoteStart() | Forgive() | Fulfil() | HandOver():
                pass
            case _:
                assert_never(done.action)

    def stepped(self, step: Step) -> None:
        """A correction of the front took effect."""
        match step:
            case Want(tasks):
                told = f"The number of the control plane's tasks was set to {tasks}."
                self._log.tell(EventKind.TASKS_SET, told, data={"tasks": tasks})
            case Face(control_plane):
                faced = "control plane" if control_plane else "night watch"
                told = f"The listener was turned to the {faced}."
                self._log.tell(EventKind.LISTENER_TURNED, told, data={"control_plane": control_plane})
            case Move(target, failure):
                if failure:
                    self._log.tell(EventKind.WAKE_FAILED, failure.message, data=_why(failure))
                told = f"The control plane's state became {target}."
                self._log.tell(EventKind.FRONT_MOVED, told, data={"state": str(target)})
            case _:
                assert_never(step)

    async def task_ended(self, task_arn: str, ending: Ending) -> None:
        """Once, however often and by whomever ECS is heard to say so. Raises Unavailable."""
        told = f"A task of the control plane ended, and nobody had told it to: {ending.why}"
        await self._log.tell_once(f"ended {task_arn}", EventKind.TASK_FAILED, told, data={"fix": ending.fix})

    # -- what somebody asked for

    def woken(self, model: str, *, by: str, nodes: int = 1, how: str = "with a request") -> None:
        """Nothing was on its way, and now somebody's wish stands."""
        data: dict[str, EventValue] = {"nodes": nodes, "how": how}
        self._log.tell(EventKind.MODEL_WOKEN, f"{by} woke {model} {how}.", cause=by, model=model, data=data)

    def put_to_sleep(self, model: str, *, by: str) -> None:
        self._log.tell(EventKind.MODEL_PUT_TO_SLEEP, f"{by} put {model} to sleep.", cause=by, model=model)

    def kept_awake(self, model: str, until: float, *, by: str) -> None:
        """``until`` is 0 where that was taken back."""
        told = f"{by} keeps {model} awake." if until else f"{by} lets {model} sleep again."
        self._log.tell(EventKind.MODEL_KEPT_AWAKE, told, cause=by, model=model, data={"until": until or None})

    def changed(self, model: str, settings: Iterable[str], *, by: str) -> None:
        names = ", ".join(sorted(settings)) or "nothing"
        told = f"{by} changed {names} of {model}."
        self._log.tell(EventKind.MODEL_CHANGED, told, cause=by, model=model, data={"settings": names})

    # -- what nodes say of themselves

    @property
    def recalled(self) -> bool:
        return self._seen is not None

    async def recall(self, store: EventStore | None) -> None:
        """What an earlier process has told of the nodes that start right now. Raises Unavailable."""
        events: Sequence[Event] = ()
        if store:
            events = [entry.event for entry in (await store.before(await store.end() + 1, limit=RECALLED)).entries]
        self._seen = {
            (event.node, _FAILED if event.kind is EventKind.NODE_FAILED else str(event.data.get("phase", _READY)))
            for event in events
            if event.node and event.kind in (EventKind.NODE_PHASE, EventKind.NODE_READY, EventKind.NODE_FAILED)
        }

    def saw(self, nodes: Sequence[Node]) -> None:
        """What is new of how far they are. Nothing before ``recall``: an earlier process may have told it."""
        if self._seen is None:
            return
        for node in nodes:
            for record in node.phases:
                if record.phase is not Phase.INSTANCE and self._first(node.id, str(record.phase)):
                    self._phase(node, record)
            if node.state is NodeState.READY and self._first(node.id, _READY):
                self._ready(node)
            if node.state is NodeState.FAILED and node.ready_at and node.error and self._first(node.id, _FAILED):
                self._failed(node, node.error)
        there = {node.id for node in nodes}
        self._seen = {told for told in self._seen if told[0] in there}

    def _first(self, node: NodeId, told: str) -> bool:
        assert self._seen is not None
        first = (node, told) not in self._seen
        self._seen.add((node, told))
        return first

    def _phase(self, node: Node, record: PhaseRecord) -> None:
        told = f"Node {node.id} is in phase {record.phase}."
        data: dict[str, EventValue] = {"phase": str(record.phase)}
        self._log.tell(EventKind.NODE_PHASE, told, at=record.started_at, model=node.model, node=node.id, data=data)

    def _ready(self, node: Node) -> None:
        seconds = round(node.ready_at - node.launched_at, 1)
        told = f"Node {node.id} is ready, {seconds:.0f} s after its launch."
        data: dict[str, EventValue] = {"seconds": seconds}
        self._log.tell(EventKind.NODE_READY, told, at=node.ready_at, model=node.model, node=node.id, data=data)

    def _failed(self, node: Node, failure: Failure) -> None:
        """It had been ready: of a start that failed, another entry tells."""
        told = f"Node {node.id} failed: {failure.message}"
        data = _why(failure) | {"cause": failure.cause or None}
        self._log.tell(EventKind.NODE_FAILED, told, at=node.heartbeat_at, model=node.model, node=node.id, data=data)

    # -- what it costs

    async def spent(self, budgets: Budgets, month: str) -> None:
        """What is new of how far budgets are spent, whichever process told what is not. Raises Unavailable."""
        for standing in budgets.standings():
            if standing.state in _BUDGET:
                await self._budget(standing, month)

    async def _budget(self, standing: Standing, month: str) -> None:
        """Each state once a month, and again at another limit."""
        kind, follows = _BUDGET[standing.state]
        scope, limit = standing.limit.scope, standing.limit.micro_usd
        name = f"{kind} {month} {scope} {limit}"
        if name in self._spent:
            return
        data: dict[str, EventValue] = {"scope": scope, "month": month, "spent": standing.spent, "limit": limit}
        told = (
            f"Of the budget of {scope} for {month}, {dollars(limit)}, {dollars(standing.spent)} are spent: {follows}."
        )
        await self._log.tell_once(name, kind, told, data=data)
        self._spent.add(name)

    # -- inside

    def _node(self, action: Drain | Fail | Terminate | Bury) -> None:
        node = action.node
        data: dict[str, EventValue] = {}
        match action:
            case Drain(reason=reason):
                kind, told, data = EventKind.NODE_DRAINING, f"drains: {reason}.", {"reason": reason}
            case Fail(failure=failure):
                kind, told, data = EventKind.NODE_FAILED, f"failed: {failure.message}", {"code": failure.code}
                if self._seen is not None and not self._first(node.id, _FAILED):
                    return  # its row was seen first
            case Terminate():
                kind, told = EventKind.NODE_TERMINATING, "is being terminated."
            case Bury():
                kind, told, data = EventKind.NODE_GONE, "is gone.", {"reason": node.reason or None}
        self._tell_once(kind, f"Node {node.id} {told}", node.id, model=node.model, data=data)

    def _instance(self, action: Adopt | Evict | Release) -> None:
        instance = action.instance
        model: str | None = None
        match action:
            case Adopt(group):
                kind, told, model = EventKind.NODE_ADOPTED, "had no row, and was adopted.", group.model
            case Release(group):
                kind, told, model = EventKind.NODE_RELEASED, "was released: its group may end it now.", group.model
            case Evict():
                kind, told = EventKind.NODE_TERMINATING, "was taken out of its group."
        self._tell_once(kind, f"Instance {instance.id} {told}", instance.id, model=model, data={})

    def _tell_once(
        self, kind: EventKind, told: str, node: NodeId, *, model: str | None, data: dict[str, EventValue]
    ) -> None:
        if kind in _AGAIN:
            if (kind, node) in self._repeated:
                return
            self._repeated.add((kind, node))
        elif kind is EventKind.NODE_GONE:
            self._repeated -= {(repeated, node) for repeated in _AGAIN}
        self._log.tell(kind, told, model=model, node=node, data=data)

    def _launch(self, model: str, done: Done) -> None:
        if done.refusal:
            told = f"A launch for {model} was refused: {done.refusal.message}"
            self._log.tell(EventKind.LAUNCH_REFUSED, told, model=model, data=_why(done.refusal))
            return
        told = f"Node {done.launched} was launched for {model}."
        self._log.tell(EventKind.NODE_LAUNCHED, told, model=model, node=done.launched)

    def _given_up(self, action: Abandon | Refuse | CountFailure) -> None:
        match action:
            case Abandon(launch):
                told = f"A launch for {launch.model} whose end is not known was given up."
                self._log.tell(EventKind.LAUNCH_ABANDONED, told, model=launch.model)
            case Refuse(model, failure, wish):
                if wish:  # else nothing was taken back
                    told = f"The wish for {model} was taken back: {failure.message}"
                    self._log.tell(EventKind.WISH_REFUSED, told, model=model, data=_why(failure) | {"by": wish.by})
            case CountFailure(model, _, failure, count):
                told = f"A start of {model} failed: {failure.message}"
                self._log.tell(EventKind.START_FAILED, told, model=model, data=_why(failure) | {"in_a_row": count})


def _why(failure: Failure) -> dict[str, EventValue]:
    return {"code": failure.code, "fix": failure.fix or None, "permanent": failure.permanent}
