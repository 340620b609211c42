"""The load balancer: one listener, whose weights say who gets a request; the night watch's replies are whole, the
control plane's bytes pass as they come.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from rehearsal import alb
from rehearsal.edge import Edge
from rehearsal.functions import FunctionFailed

_CONNECT_LIMIT_S = 10.0
_LOOK_S = 0.02
_THREADS = 40
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
)
_LIBRARY_S_OWN = ("user-agent", "accept", "accept-encoding", "content-type")


class Invocable(Protocol):
    def invoke(self, event: object) -> Any:
        """Raises FunctionFailed."""


class Turns:
    """Where the listener pointed. A turn arrives bit by bit: some requests still go the old way for a while."""

    def __init__(
        self,
        read: Callable[[], Mapping[str, int]],
        *,
        clock: Callable[[], float],
        propagation_s: float,
        rng: random.Random,
    ) -> None:
        """``read`` gives the weight of each target group now."""
        self._read = read
        self._clock = clock
        self._propagation_s = propagation_s
        self._rng = rng
        self._seen: deque[tuple[float, Mapping[str, int]]] = deque([(clock(), read())])

    def look(self) -> None:
        """Call it often: what is not seen is not a turn."""
        now, weights = self._clock(), self._read()
        if weights != self._seen[-1][1]:
            self._seen.append((now, weights))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._propagation_s:
            self._seen.popleft()

    def group(self) -> str:
        """The target group of one request."""
        at = self._clock() - self._rng.uniform(0.0, self._propagation_s)
        weights = next((weights for since, weights in reversed(self._seen) if since <= at), self._seen[0][1])
        return self._rng.choices(list(weights), weights=list(weights.values()))[0]


@dataclass(frozen=True)
class Behind:
    """What stands behind the listener."""

    night_watch_group: str
    night_watch: Invocable
    control_plane: Callable[[], Sequence[str]]  # base URLs: the healthy ones, or all where none is


class Balancer(AbstractContextManager["Balancer"]):
    """Listens on ``port`` of this machine, in a thread of its own, between entering and leaving.

    With an ``edge``, what is the site's never gets here: one hop stands for two.
    """

    def __init__(
        self, port: int, turns: Turns, behind: Behind, *, idle_timeout_s: float, edge: Edge | None = None
    ) -> None:
        self.in_flight: Counter[str] = Counter()  # by base URL; read by whoever drains a target
        self._clients: dict[str, set[asyncio.BaseTransport]] = {}  # by base URL: whose requests are open there
        self._port = port
        self._turns = turns
        self._behind = behind
        self._idle_timeout_s = idle_timeout_s
        self._edge = edge
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._closing = asyncio.Event()
        self._failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="invocation")
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def __enter__(self) -> Balancer:
        """Raises OSError where it cannot listen."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):  # it is over already
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def break_off(self, target: str) -> None:
        """What is open to this base URL, as at the end of a target's deregistration delay: nobody gets another byte."""

        def broken() -> None:
            for client in self._clients.get(target, ()):
                if isinstance(client, asyncio.WriteTransport):
                    client.abort()

        with suppress(RuntimeError):  # it is over already
            self._loop.call_soon_threadsafe(broken)

    # -- its thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        # A client that hangs up ends its request to the target, as the real one does.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.5)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._http:
            await runner.setup()
            try:
                await web.SockSite(runner, _listening(self._port)).start()
                self._ready.set()
                while not self._closing.is_set():
                    self._turns.look()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._closing.wait(), _LOOK_S)
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        page = self._edge and self._edge.page(request.method, request.path)
        if page:
            return web.Response(status=page.status, headers=page.headers, body=page.body)
        group = self._turns.group()
        if group == self._behind.night_watch_group:
            return await self._invoke(request, group)
        targets = self._behind.control_plane()
        if not targets:
            return web.Response(status=503)
        return await self._forward(request, random.choice(targets))

    async def _invoke(self, request: web.BaseRequest, group: str) -> web.Response:
        """Whoever hangs up meanwhile does not end the function's run."""
        body = await request.content.read()  # the request's own method has a limit of its own
        if len(body) > alb.LIMIT_BYTES:
            return web.Response(status=413, text=alb.TOO_LARGE, content_type="text/html")
        event = alb.event(
            request.method,
            request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            headers=_forwarded(request),
            body=body,
            group=group,
        )
        try:
            result = await self._loop.run_in_executor(self._pool, self._behind.night_watch.invoke, event)
            reply = alb.reply(result)
        except (FunctionFailed, alb.BadReply):  # also where Lambda throttles it: nothing of ours is said then
            return web.Response(status=502)
        kept = [(name, value) for name, value in reply.headers if name.lower() != "content-length"]
        return web.Response(status=reply.status, headers=kept, body=reply.body)

    async def _forward(self, request: web.BaseRequest, target: str) -> web.StreamResponse:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_LIMIT_S, sock_read=self._idle_timeout_s)
        assert request.transport
        client = request.transport
        self._clients.setdefault(target, set()).add(client)
        self.in_flight[target] += 1
        try:
            async with self._http.request(
                request.method,
                target + request.raw_path,
                headers=_forwarded(request),
                data=request.content if request.can_read_body else None,
                skip_auto_headers=_LIBRARY_S_OWN,
                allow_redirects=False,
                timeout=limits,
            ) as answer:
                return await _passed_on(request, answer)
        except TimeoutError:
            return web.Response(status=504)
        except aiohttp.ClientError:
            return web.Response(status=502)
        finally:
            self.in_flight[target] -= 1
            self._clients[target].discard(client)


async def _passed_on(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """The answer's bytes as they come. An answer that breaks off is broken off here, never ended."""
    kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
    if "content-length" not in answer.headers and request.version >= aiohttp.HttpVersion11:
        response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        async for data in answer.content.iter_any():
            await response.write(data)
    except (aiohttp.ClientError, TimeoutError):
        if request.transport:
            request.transport.abort()
    return response


def _forwarded(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The client's headers as a target sees them."""
    kept = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
    return [
        *kept,
        ("X-Forwarded-For", request.remote or ""),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Port", str(request.url.port or 80)),
    ]


def _listening(port: int) -> socket.socket:
    """A port that ``ecs.reserve`` may hold. Raises OSError."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
