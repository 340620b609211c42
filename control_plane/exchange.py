"""One client's request, from the first silence to the last byte: how it is kept alive, and how it may fail.

What a client takes while it waits, and what it understands when things go wrong after the 200, differs by client
and was measured (``Manner``). Everything that is sent to the client of an inference route goes through here.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from control_plane.dialect import Dialect
from control_plane.errors import RequestError
from control_plane.passage import Passage

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]


class Aborted(Exception):
    """Ends a response without its terminator, on purpose: the one sign of failure left that some clients act on."""


class Manner(Enum):
    """What a client takes while it waits."""

    STREAM = auto()  # comments and empty chunks; a failure is an error event
    HOLD = auto()  # silence, then a 503 to come back on: JavaScript SDKs raise on an aborted body without a retry
    PAD_ABORT = auto()  # newlines, then JSON; a failure aborts the body: the SDK comes back and gets the real status
    PAD_BODY = auto()  # newlines, then JSON; a failure is JSON too: a person with curl reads it

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes], *, stream: bool, attempt: int) -> Manner:
        """By what the client says of itself; ``attempt`` counts from 0."""
        if stream:
            return cls.STREAM
        language = headers.get(b"x-stainless-lang", b"")
        if language == b"js":
            return cls.HOLD if attempt < 2 else cls.PAD_ABORT
        if language == b"python" or headers.get(b"user-agent", b"").startswith(b"ai/"):
            return cls.PAD_ABORT
        return cls.PAD_BODY


@dataclass(frozen=True)
class Patience:
    """How long silences may be; seconds."""

    silent_hold_s: float = 25.0  # before the 200 is given away
    keepalive_s: float = 10.0
    chunk_keepalive_s: float = 40.0
    edge_read_timeout_s: float = 60.0

    @property
    def longest_silence_s(self) -> float:
        return self.edge_read_timeout_s - 5.0


class Exchange:
    """The client's half of one inference request."""

    __slots__ = (
        "_dialect",
        "_extra",
        "_flowing",
        "_last_chunk_at",
        "_last_sent_at",
        "_patience",
        "_quiet_until",
        "_send",
        "_sending",
        "_started",
        "ended",
        "manner",
        "model",
        "opened_at",
        "passage",
        "working",
    )

    def __init__(
        self,
        send: Send,
        *,
        dialect: Dialect,
        model: str,
        manner: Manner,
        patience: Patience,
        now: float,
        request_id: str,
        passage: Passage | None = None,
    ) -> None:
        """``passage`` is told how far the request comes."""
        self._send = send
        self._dialect = dialect
        self._patience = patience
        self._started = False
        self._flowing = False  # the engine's own bytes go out
        self._sending = False  # one of them waits for a slow reader
        self._quiet_until = now + patience.silent_hold_s
        self._last_sent_at = self._last_chunk_at = now
        self._extra: list[Header] = [(b"x-request-id", request_id.encode()), (b"cache-control", b"no-store")]
        self.model = model
        self.manner = manner
        self.opened_at = now
        self.passage = passage or Passage(dialect.path, now)
        self.working = False  # an engine has the request
        self.ended = False  # nothing can go wrong for the client any more

    # -- keeping it alive

    def due(self, now: float, *, launched: bool) -> bool:
        """Is it time for a sign of life? Not while a slow reader still has the last thing before it."""
        if self._sending or self.ended or (self.manner is Manner.HOLD and not self.working):
            return False
        if not self._started:
            return now >= self._quiet_until or (launched and self.manner is Manner.STREAM)
        return now - self._last_sent_at >= self._patience.keepalive_s and (self._streaming or not self._flowing)

    async def beat(self, now: float, note: str) -> None:
        """Send a sign of life. Returns when the client's socket took it, which may take long."""
        self._last_sent_at = now
        self._sending = True
        try:
            if not self._started:
                await self._start(200, [(b"content-type", self._content_type)])
            if not self.ended and (self._streaming or not self._flowing):  # the engine's answer may have come meanwhile
                await self._body(self._sign_of_life(now, note))
        finally:
            self._sending = False

    def _sign_of_life(self, now: float, note: str) -> bytes:
        if not self._streaming:
            return b"\n"
        comment = f": diogenes {note}\n\n".encode()
        if self._flowing or now - self._last_chunk_at < self._patience.chunk_keepalive_s:
            return comment
        self._last_chunk_at = now
        return comment + self._dialect.empty_chunk(self.model, created=int(now))

    # -- the answer

    def add_header(self, name: bytes, value: bytes) -> None:
        """For an answer whose head has not gone out yet; ignored after that. The last value of a name holds."""
        self._extra = [header for header in self._extra if header[0] != name]
        self._extra.append((name, value))

    async def head(self, status: int, headers: Sequence[Header]) -> bool:
        """The engine's status and headers. False when a 200 went out already and this is none."""
        if self._started:
            return status == 200
        await self._start(status, headers)
        return True

    async def pass_on(self, chunk: bytes, now: float) -> None:
        """The engine's own bytes."""
        if not chunk:
            return
        self._flowing = True
        self._last_sent_at = now
        self._sending = True
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sending = False

    async def end(self, chunk: bytes = b"") -> None:
        """The last of the engine's bytes, and the end."""
        self.ended = True
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def fail(self, error: RequestError) -> None:
        """End with this error, as well as this client can still be told. Raises Aborted where that is the way."""
        if not self._started:
            await refuse(self._send, error, dialect=self._dialect, extra=self._extra)
        elif self._streaming:
            await self._body(self._dialect.error_event(error))
            await self.end()
        elif self.manner is Manner.PAD_BODY and not self._flowing:
            await self._body(self._dialect.error_body(error))
            await self.end()
        else:
            raise Aborted(error.code)

    @property
    def started(self) -> bool:
        return self._started

    @property
    def flowing(self) -> bool:
        """Did some of the engine's own bytes go out?"""
        return self._flowing

    @property
    def _streaming(self) -> bool:
        return self.manner is Manner.STREAM

    @property
    def _content_type(self) -> bytes:
        return b"text/event-stream; charset=utf-8" if self._streaming else b"application/json"

    async def _start(self, status: int, headers: Sequence[Header]) -> None:
        self._started = True
        if self._streaming:
            self._extra.append((b"x-accel-buffering", b"no"))
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._extra]})

    async def _body(self, chunk: bytes) -> None:
        if chunk:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})


async def refuse(
    send: Send,
    error: RequestError,
    *,
    dialect: Dialect,
    extra: Sequence[Header],
    before_end: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """A whole answer that is an error, with its true status; ``before_end`` runs when all of it is on its way."""
    body = dialect.error_body(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    headers += error_headers(error)
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if before_end:
        await before_end()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_headers(error: RequestError) -> list[Header]:
    """Whether trying again is right, and when."""
    headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    return headers


def request_ids(holder: str) -> Callable[[], str]:
    """Unique without asking the system for randomness on every request."""
    numbers = itertools.count(1)
    return lambda: f"req_{holder}{next(numbers):x}"
