"""A change of state, as it is told, and its place in the log. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from typing_extensions import TypedDict

from control_plane.nodes import NodeId


class EventKind(StrEnum):
    """What happened, in a word; all that is ever told."""

    MODEL_WOKEN = "model-woken"  # somebody wants nodes of a model that had none on their way
    MODEL_PUT_TO_SLEEP = "model-put-to-sleep"  # by hand; a start that was cancelled, too
    MODEL_KEPT_AWAKE = "model-kept-awake"
    MODEL_CHANGED = "model-changed"  # what Pulumi configured was overridden, or that taken back
    WISH_REFUSED = "wish-refused"
    LAUNCH_REFUSED = "launch-refused"
    LAUNCH_ABANDONED = "launch-abandoned"
    START_FAILED = "start-failed"
    WAKE_FAILED = "wake-failed"  # the control plane does not start
    TASK_FAILED = "task-failed"  # one of the control plane's ended, and nobody had told it to
    NODE_LAUNCHED = "node-launched"
    NODE_PHASE = "node-phase"  # its start entered the next phase
    NODE_READY = "node-ready"
    NODE_ADOPTED = "node-adopted"
    NODE_DRAINING = "node-draining"
    NODE_FAILED = "node-failed"
    NODE_TERMINATING = "node-terminating"
    NODE_RELEASED = "node-released"
    NODE_GONE = "node-gone"
    TASKS_SET = "tasks-set"
    LISTENER_TURNED = "listener-turned"
    FRONT_MOVED = "front-moved"
    KEY_CREATED = "key-created"
    KEY_REVOKED = "key-revoked"
    SIGNED_IN = "signed-in"
    SIGN_IN_REFUSED = "sign-in-refused"
    SIGNED_OUT = "signed-out"
    ALLOWLIST_CHANGED = "allowlist-changed"
    BUDGET_CHANGED = "budget-changed"
    BUDGET_WARNED = "budget-warned"
    BUDGET_REACHED = "budget-reached"  # nothing more is started
    BUDGET_EXCEEDED = "budget-exceeded"  # what runs is stopped
    NOTICE_GIVEN_UP = "notice-given-up"  # a mail or a webhook took it no more


PERSONAL = frozenset(
    {
        EventKind.KEY_CREATED,
        EventKind.KEY_REVOKED,
        EventKind.SIGNED_IN,
        EventKind.SIGNED_OUT,
        EventKind.ALLOWLIST_CHANGED,
    }
)
"""Told to whose deed it was, to whom it befell (``of`` in its data), and to owners."""

EventValue = str | int | float | bool | None


@dataclass(frozen=True)
class Event:
    """One change of state. Never holds a prompt, a key or a token."""

    at: float  # when it happened; it is told a little later
    kind: EventKind
    cause: str  # who or what made it: an email address, "janitor"
    message: str  # one plain sentence
    model: str | None = None  # where it is one's, and known
    node: NodeId | None = None
    data: Mapping[str, EventValue] = field(default_factory=dict)  # what a program wants to know besides

    def concerns(self, email: str) -> bool:
        """May somebody see it who is no owner? Nothing of another person's keys, comings and goings, and budgets."""
        if self.kind in PERSONAL:
            return email in (self.cause, self.data.get("of"))
        scope = str(self.data.get("scope", ""))
        return not scope.startswith(("user:", "key:")) or scope == f"user:{email}"


class EventEntry(TypedDict):
    """What happened."""

    id: str
    at: float  # Unix seconds
    kind: str
    cause: str
    model: str | None
    node: str | None
    message: str
    data: dict[str, EventValue]


@dataclass(frozen=True)
class Entry:
    """An event in its place in the log."""

    number: int  # 1, 2, 3, … in the order of writing, without gaps
    event: Event

    @property
    def id(self) -> str:
        """What the API calls it; sorts as text."""
        return event_id(self.number)

    def to_dict(self) -> EventEntry:
        event = self.event
        return {
            "id": self.id,
            "at": event.at,
            "kind": str(event.kind),
            "cause": event.cause,
            "model": event.model,
            "node": event.node,
            "message": event.message,
            "data": dict(event.data),
        }


@dataclass(frozen=True)
class Stretch:
    """A part of the log, from a number on (or down) to ``reached``: all that is left of it and can be read here."""

    entries: Sequence[Entry]
    reached: int


def event_id(number: int) -> str:
    return f"{number:012d}"
