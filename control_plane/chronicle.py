"""What was done, as events. Bookkeeping is none: leases, estimates, wishes that got what they asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import assert_never

from control_plane.actions import (
    Abandon,
    Adopt,
    Bury,
    CountFailure,
    Done,
    Drain,
    Evict,
    Fail,
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
from control_plane.front import Face, Move, Step, Want
from control_plane.nodes import NodeId
from control_plane.ports import Clock, Event, EventKind


class Chronicle:
    """Collects the events of one cause, in the order in which they happened; whoever made it writes them."""

    def __init__(self, cause: str, *, clock: Clock) -> None:
        self._cause = cause
        self._clock = clock
        self.events: list[Event] = []

    @property
    def kinds(self) -> Mapping[str, int]:
        """How many of each kind."""
        return Counter(str(event.kind) for event in self.events)

    def acted(self, done: Done) -> None:
        """A reconciler's action took effect."""
        match done.action:
            case Drain() | Fail() | Terminate() | Bury():
                self._node(done.action)
            case Adopt() | Evict() | Release():
                self._instance(done.action)
            case Start(model=model):
                self._launch(model, done.launched)
            case Repeat(launch):
                self._launch(launch.model, done.launched)
            case Abandon() | Refuse():
                self._given_up(done.action)
            case Renew() | Hold() | NoteStart() | CountFailure() | Fulfil() | HandOver():
                pass
            case _:
                assert_never(done.action)

    def stepped(self, step: Step) -> None:
        """A correction of the front took effect."""
        match step:
            case Want(tasks):
                self._add(EventKind.TASKS_SET, f"The number of the control plane's tasks was set to {tasks}.")
            case Face(control_plane):
                faced = "control plane" if control_plane else "night watch"
                self._add(EventKind.LISTENER_TURNED, f"The listener was turned to the {faced}.")
            case Move(target):
                self._add(EventKind.FRONT_MOVED, f"The control plane's state became {target}.")
            case _:
                assert_never(step)

    def _node(self, action: Drain | Fail | Terminate | Bury) -> None:
        node = action.node
        match action:
            case Drain(reason=reason):
                kind, told = EventKind.NODE_DRAINING, f"drains: {reason}."
            case Fail(failure=failure):
                kind, told = EventKind.NODE_FAILED, f"failed: {failure.message}"
            case Terminate():
                kind, told = EventKind.NODE_TERMINATING, "is being terminated."
            case Bury():
                kind, told = EventKind.NODE_GONE, "is gone."
        self._add(kind, f"Node {node.id} {told}", model=node.model, node=node.id)

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
        self._add(kind, f"Instance {instance.id} {told}", model=model, node=instance.id)

    def _launch(self, model: str, node: NodeId | None) -> None:
        self._add(EventKind.NODE_LAUNCHED, f"Node {node} was launched for {model}.", model=model, node=node)

    def _given_up(self, action: Abandon | Refuse) -> None:
        match action:
            case Abandon(launch):
                told = f"A launch for {launch.model} whose end is not known was given up."
                self._add(EventKind.LAUNCH_ABANDONED, told, model=launch.model)
            case Refuse(model, failure, wish):
                if wish:  # else nothing was taken back
                    told = f"The wish for {model} was taken back: {failure.message}"
                    self._add(EventKind.WISH_REFUSED, told, model=model)

    def _add(self, kind: EventKind, message: str, *, model: str | None = None, node: NodeId | None = None) -> None:
        self.events.append(Event(self._clock(), kind, self._cause, message, model, node))
