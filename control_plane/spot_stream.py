"""One stream from a Spot node: what goes out is kept, so that another node can go on when AWS takes this one back."""

from __future__ import annotations

from typing import Protocol

from control_plane.continuation import Seam, Transcript, can_keep
from control_plane.dialect import Dialect
from control_plane.errors import TakenBack
from control_plane.events import AnswerLost, EventStream, cut_short, taken_back
from control_plane.fleet import Lease
from control_plane.upstream import Upstream, UpstreamLost
from control_plane.usage import Tokens


class Asked(Protocol):
    """The call that is answered."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def body(self) -> bytes: ...

    @property
    def strip_usage(self) -> bool: ...


class BrokenOff(Exception):
    """The node went away in mid-answer, and another shall go on from what was sent."""

    def __init__(self, sent: Transcript) -> None:
        super().__init__("an answer broke off")
        self.sent = sent


class SpotStream:
    """Reads and rewrites; whoever holds it sends. ``begun`` and ``seam`` where it goes on with another's answer."""

    def __init__(
        self,
        call: Asked,
        lease: Lease,
        upstream: Upstream,
        *,
        begun: Transcript | None = None,
        seam: Seam | None = None,
    ) -> None:
        self.lease = lease
        self._upstream = upstream
        self._seam = seam
        self._sent = begun or (Transcript(call.dialect, call.body) if can_keep(call.dialect) else None)
        self._events = EventStream(call.dialect, strip_usage=call.strip_usage)
        self.whole_story = begun is None  # nobody else counts this request
        lease.on_hand_over(self._leave)

    async def read(self) -> bytes:
        """What has arrived; empty at the end. Raises UpstreamLost, and AnswerLost when the engine says that it failed.

        One that is being ended by AWS says so as well, and means that it goes.
        """
        if error := self._events.error:
            raise UpstreamLost(error.message) if self.lease.interrupted else AnswerLost(error)
        chunk = await self._upstream.read()
        if not chunk and not self._events.complete:
            raise UpstreamLost("the stream ended without its end mark")
        return chunk

    def feed(self, chunk: bytes) -> bytes:
        """What of it to send; noted as sent."""
        return self._noted(self._events.feed(chunk))

    def rest(self) -> bytes:
        """What was held back, at the end."""
        return self._noted(self._events.rest())

    @property
    def tokens(self) -> Tokens | None:
        """Of the whole answer, at its end."""
        told = self._events.tokens
        return self._seam.tokens(told) if self._seam else told

    def broken_off(self) -> BrokenOff | TakenBack | AnswerLost:
        """What came of the loss: another goes on, or the client is told."""
        if self._sent and self._sent.rest() is not None:
            self.whole_story = False
            return BrokenOff(self._sent)
        return taken_back() if self.lease.interrupted else AnswerLost(cut_short())

    def _leave(self) -> None:
        if self._sent and self._sent.rest() is not None:
            self._upstream.abort()

    def _noted(self, events: bytes) -> bytes:
        if self._seam:
            events = self._seam.join(events)
        if self._sent:
            self._sent.note(events)
        return events
