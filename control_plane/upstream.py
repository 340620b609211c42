"""The HTTP/1.1 client towards engines: POST a body, hand on the answer's bytes as they come.

Our own, because the relay's cost is mostly this: with a general-purpose client the added latency and CPU per chunk
were at the limit of what we promise, with this one at half of it (``make bench``). It does one thing: one request at
a time on a connection, kept alive between requests, parsed by llhttp (httptools); no redirects, no TLS, no proxies.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import cast

import httptools

HIGH_WATER_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 3.0
IDLE_S = 4.0  # engines (uvicorn) close an idle connection after 5 s

# An instance that is switched off says no goodbye: without these its last stream would hang for ever. Half a minute.
_LIVENESS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))
    if hasattr(socket, name)  # the last is Linux's own
]

Endpoint = tuple[str, int]
Headers = Sequence[tuple[bytes, bytes]]


class UpstreamLost(Exception):
    """The connection could not be made, or broke before the answer was complete."""


class Upstream(asyncio.Protocol):
    """One connection, and the answer that is being read from it."""

    def __init__(self, give_back: Callable[[Upstream], None]) -> None:
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: UpstreamLost | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._keep_alive = False
        self._headed = False
        self._done = True
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def read(self) -> bytes:
        """What has arrived since the last read; empty at the end of the answer. Raises UpstreamLost."""
        chunks = self._chunks
        while not chunks:
            if self._error:
                raise self._error
            if self._done:
                return b""
            waiter = self._waiter = self._loop.create_future()
            await waiter
        self._size = 0
        if self._paused and self._transport:
            self._paused = False
            self._transport.resume_reading()
        if len(chunks) == 1:
            return chunks.pop()
        chunk = b"".join(chunks)
        chunks.clear()
        return chunk

    async def read_all(self, limit: int) -> bytes:
        """The whole answer, cut at ``limit`` bytes."""
        body = b""
        while len(body) < limit and (chunk := await self.read()):
            body += chunk
        return body

    def close(self) -> None:
        """Done with it: back to the pool when the answer was read to its end, else cut, which stops the engine.

        Not when reading is paused: what is left of an answer that nobody took would silence the next one.
        """
        whole = self._done and self._headed and not self._paused and not self._error
        if whole and self._keep_alive and self.usable:
            self._give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def finished(self) -> bool:
        """Has everything been read?"""
        return self._done and not self._chunks

    @property
    def answered(self) -> bool:
        """Has the status line come?"""
        return self._headed

    async def request(self, head: bytes, body: bytes) -> None:
        """Send it, and wait for the answer's headers. Raises UpstreamLost."""
        self._parser = httptools.HttpResponseParser(self)
        self._error, self._chunks, self._size = None, [], 0
        self._headed = self._done = False
        self.headers = []
        if not self._transport:
            raise UpstreamLost("closed while idle")
        self._transport.write(head + body if len(body) < HIGH_WATER_BYTES else head)
        if len(body) >= HIGH_WATER_BYTES:
            self._transport.write(body)
        while not self._headed:
            if self._error:
                raise self._error
            waiter = self._waiter = self._loop.create_future()
            await waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            waiter.set_result(None)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, though not by inheritance
        sock = transport.get_extra_info("socket")
        for level, option, value in _LIVENESS:
            sock.setsockopt(level, option, value)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._done:  # nobody asked anything: not a server to trust further
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = UpstreamLost(f"not HTTP: {error}")
            self.abort()
        if self._headed or self._error:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._done:
            self._error = self._error or UpstreamLost(str(exc) if exc else "closed in mid-answer")
            self._wake()

    # -- httptools

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser
        self.status = self._parser.get_status_code()
        self._keep_alive = self._parser.should_keep_alive()
        self._headed = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER_BYTES and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._done = self._headed


class Upstreams:
    """Connections to every engine, kept alive between requests."""

    def __init__(
        self, *, connect_timeout_s: float = CONNECT_TIMEOUT_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._monotonic = monotonic
        self._idle: dict[Endpoint, list[Upstream]] = {}

    async def post(self, endpoint: Endpoint, head: bytes, body: bytes) -> Upstream:
        """Send a request; the answer's headers have come when this returns. Raises UpstreamLost.

        Close what it returns. A kept connection that dies before any byte of an answer is replaced by a new one: the
        engine had closed it while it was idle.
        """
        idle = self._idle.setdefault(endpoint, [])
        while idle:
            upstream = idle.pop()
            if upstream.usable and self._monotonic() - upstream.idle_since < IDLE_S:
                try:
                    return await self._send(upstream, head, body)
                except UpstreamLost:
                    if upstream.answered:
                        raise
            else:
                upstream.abort()
        return await self._send(await self._connect(endpoint), head, body)

    def close(self) -> None:
        for idle in self._idle.values():
            for upstream in idle:
                upstream.abort()
        self._idle.clear()

    async def _send(self, upstream: Upstream, head: bytes, body: bytes) -> Upstream:
        try:
            await upstream.request(head, body)
        except BaseException:
            upstream.abort()
            raise
        return upstream

    async def _connect(self, endpoint: Endpoint) -> Upstream:
        loop = asyncio.get_running_loop()

        def give_back(upstream: Upstream) -> None:
            upstream.idle_since = self._monotonic()
            self._idle.setdefault(endpoint, []).append(upstream)

        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, upstream = await loop.create_connection(lambda: Upstream(give_back), *endpoint)
        except (OSError, TimeoutError) as error:
            raise UpstreamLost(f"cannot connect: {error}") from error
        return upstream
