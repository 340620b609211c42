"""What is sent to people who are not looking: which events, in what words, and how far each channel has come. Pure.

Some events want somebody's attention: a leak that was repaired, a start that failed, a control plane that does not
come up, a launch that only a change can bring about, a budget. They leave as notices, each of one event or of all that
gathered since the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from control_plane.event import Entry, Event, EventKind

REPAIRER = "janitor"
"""Whose repairs are of leaks: where a control plane is at work, the janitor does nothing."""

AGAIN_S = 6 * 3600.0
"""The same trouble of the same model is sent again after this at the earliest."""

MONTH_S = 32 * 86400.0
"""A budget's state is sent once a month, and again where its limit was changed."""

FRESH_S = 86400.0
"""What happened longer ago is nobody's news any more."""

MAX_LISTED = 20
MAX_CONTENT_CHARS = 1900  # what a chat takes of one message: Discord 2,000 characters

_LEAKS = frozenset(
    {EventKind.NODE_DRAINING, EventKind.NODE_FAILED, EventKind.NODE_TERMINATING, EventKind.LAUNCH_ABANDONED}
)

_HEADLINES: Mapping[EventKind, str] = {
    EventKind.START_FAILED: "a start failed",
    EventKind.WAKE_FAILED: "the control plane does not start",
    EventKind.LAUNCH_REFUSED: "a launch was refused",
    EventKind.BUDGET_WARNED: "a budget is nearly spent",
    EventKind.BUDGET_REACHED: "a budget is spent",
    EventKind.BUDGET_EXCEEDED: "a budget's hard cap is reached",
}
_LEAK = "a leak was repaired"

_REPAIRED = "Nothing has to be done. What came before it stands among the events."
_SEE_LOG = "The Models page of the web app holds the engine's last lines."
_RAISE = "An owner can raise it on the Usage page of the web app; `pulumi stack output webUrl` tells its address."
_ALREADY = frozenset({EventKind.BUDGET_REACHED, EventKind.BUDGET_EXCEEDED})


@dataclass(frozen=True)
class Notice:
    """One message: its events, the oldest first; at least one. The same each time that it is sent."""

    deployment: str
    entries: Sequence[Entry]

    @property
    def id(self) -> str:
        """Each event is in one notice only, so that its last one names it: who gets it twice can tell."""
        return f"{self.deployment}-{self.entries[-1].id}"

    @property
    def title(self) -> str:
        """At most 100 characters of ASCII, as a mail's subject may have with SNS."""
        others = len(self.entries) - 1
        more = f" (and {others} more)" if others else ""
        return f"[{self.deployment}] {headline(self.entries[0].event)}{more}"

    @property
    def text(self) -> str:
        """For people: when, what, and what to do."""
        lines = [_told(entry.event) for entry in self.entries[:MAX_LISTED]]
        if len(self.entries) > MAX_LISTED:
            lines.append(f"And {len(self.entries) - MAX_LISTED} more: see the events.")
        return "\n\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For programs, and for chats: Slack shows ``text``, Discord ``content``, and neither minds the rest.

        Whatever an engine said, it calls nobody and links to nothing under another name.
        """
        whole = f"{self.title}\n\n{self.text}"
        return {
            "id": self.id,
            "deployment": self.deployment,
            "title": self.title,
            "text": _escaped(whole),
            "content": whole[:MAX_CONTENT_CHARS],
            "allowed_mentions": {"parse": []},
            "events": [{**entry.to_dict(), "fix": fix(entry.event)} for entry in self.entries],
        }


def headline(event: Event) -> str:
    """What it is, in some words of ASCII; empty for what is not sent."""
    if event.kind is EventKind.LAUNCH_REFUSED and not event.data.get("permanent"):
        return ""  # who asked was told, and it may pass
    if event.kind is EventKind.NODE_ADOPTED or (event.cause == REPAIRER and event.kind in _LEAKS):
        return _LEAK
    return _HEADLINES.get(event.kind, "")


def fix(event: Event) -> str:
    """What to do about it."""
    if told := event.data.get("fix"):
        return str(told)
    if event.kind in (EventKind.START_FAILED, EventKind.LAUNCH_REFUSED):
        return _SEE_LOG
    if event.kind not in _HEADLINES:
        return _REPAIRED
    anew = "It begins anew on the first of the month (UTC). " if event.kind in _ALREADY else ""
    return f"{anew}{_RAISE}"


def worth(
    entries: Sequence[Entry], told: Mapping[str, float], *, at: float
) -> tuple[Sequence[Entry], Mapping[str, float]]:
    """Of these, what is to be sent at this moment; and until when each trouble is not sent again, all others included.

    ``told`` holds that for what was sent before.
    """
    found, until = list[Entry](), {name: end for name, end in told.items() if end > at}
    for entry in entries:
        event = entry.event
        if not headline(event) or event.at <= at - FRESH_S:
            continue
        name, period_s = _trouble(event)
        if name in until:
            continue
        found.append(entry)
        if name:
            until[name] = event.at + period_s
    return found, until


def _trouble(event: Event) -> tuple[str, float]:
    """What it is the same as, and for how long; nothing for what never comes twice."""
    if event.kind in (EventKind.START_FAILED, EventKind.LAUNCH_REFUSED, EventKind.WAKE_FAILED):
        return f"{event.kind} {event.data.get('code')} {event.model}", AGAIN_S
    if event.kind in _HEADLINES:
        of = " ".join(str(event.data.get(name)) for name in ("month", "scope", "limit"))
        return f"{event.kind} {of}", MONTH_S
    return "", 0.0


def _told(event: Event) -> str:
    when = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}: {event.message}\n{fix(event)}"


def _escaped(text: str) -> str:
    """As Slack wants it: what stands in angle brackets is a call or a link there."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# -- what is stored, and the ports -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """How far a channel is: what it says stands before anything is sent. Times are Unix seconds."""

    done: int = 0  # the last entry of the log that was sent, or need not be
    upto: int = 0  # the last one of what is being sent as one notice; 0: nothing is
    since: float = 0.0  # when that was gathered
    attempts: int = 0  # of sending that
    next_at: float = 0.0  # nothing is done before
    told: Mapping[str, float] = field(default_factory=dict)  # see ``worth``
    version: int = 0  # counts writes


class NoticeStore(Protocol):
    async def read(self, channel: str) -> Progress:
        """As new where nothing stands there yet."""

    async def write(self, channel: str, progress: Progress) -> Progress:
        """In the place of what was read, by its version; as it stands then. Raises Stale where somebody was faster."""


class Channel(Protocol):
    """One way to people."""

    @property
    def name(self) -> str: ...

    async def send(self, notice: Notice) -> None:
        """Raises Unavailable where it was not taken, or nobody knows whether it was."""


@dataclass(frozen=True)
class NoticeAdapters:
    """The outside world of notices."""

    store: NoticeStore
    channels: Sequence[Channel] = ()


@dataclass(frozen=True)
class Target:
    """Where a webhook is, and the key that signs what goes there, in base64. Both are secrets."""

    url: str = field(repr=False)
    key: str = field(repr=False)
