"""The inference routes: admit, relay, and see to it that the client gets an answer or an error, whatever happens.

A plain ASGI callable in front of FastAPI's routing: the framework's machinery costs more than the relay itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set

from control_plane.affinity import key_of
from control_plane.catalogue import Catalogue
from control_plane.dialect import DIALECTS, Dialect
from control_plane.errors import MethodNotAllowed, RequestError
from control_plane.exchange import Aborted, Exchange, Manner, Patience, Receive, Scope, Send, refuse
from control_plane.passage import HUNG_UP, Passage
from control_plane.ports import Clock
from control_plane.record import Record
from control_plane.relay import Call, Relay
from control_plane.routes.admission import Attempts, Incoming, max_wait_s, parse, read_body, wait_left_s
from control_plane.routes.authenticator import Authenticator
from control_plane.routes.fault import as_request_error
from control_plane.settings import Settings

log = logging.getLogger(__name__)


class Inference:
    """ASGI application of the paths in DIALECTS."""

    def __init__(
        self,
        authenticator: Authenticator,
        catalogue: Catalogue,
        relay: Relay,
        record: Record,
        *,
        clock: Clock,
        settings: Settings,
        request_id: Callable[[], str],
    ) -> None:
        self._authenticator = authenticator
        self._catalogue = catalogue
        self._relay = relay
        self._record = record
        self._clock = clock
        self._settings = settings
        self._request_id = request_id
        self._attempts = Attempts(clock)
        self._admitted = set[asyncio.Task[None]]()
        self._ended = False
        self._sent_away: Set[asyncio.Task[None]] = frozenset()  # by ``end``
        self._loop = asyncio.get_running_loop()  # asking asyncio for it is a system call, three of them a request
        self._patience = patience(settings)

    @property
    def at_work(self) -> bool:
        """Is somebody here who may be: their body still comes, they wait, or they are answered?"""
        return bool(self._admitted)

    def end(self) -> None:
        """Whoever is here is told that the control plane restarts, and whoever still comes as well."""
        self._ended = True
        self._sent_away = frozenset(self._admitted)
        for task in self._sent_away:
            task.cancel()

    def open(self) -> None:
        """Whoever comes is answered again."""
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            self._admitted.discard(self._task)

    @property
    def _task(self) -> asyncio.Task[None]:
        task = asyncio.current_task(self._loop)
        assert task
        return task

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = DIALECTS[scope["path"]]
        headers = dict(scope["headers"])
        request_id = self._request_id()
        passage = Passage(dialect.path, self._clock(), request_id)
        if self._record.traces:
            self._record.traces.begin(passage, headers)
        incoming = Incoming(receive)
        extra = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        try:
            if scope["method"] != "POST":
                extra.append((b"allow", b"POST"))
                raise MethodNotAllowed(f"Only POST is allowed at {dialect.path}.")
            query = scope.get("query_string", b"")
            call, manner = await self._admit(dialect, headers, query, incoming, passage)
        except asyncio.CancelledError:
            self._take_back()
            refusal: RequestError = restarting()
        except Exception as error:  # noqa: BLE001 - rendered: a client never sees a bare 500
            refusal = as_request_error(error)
        else:
            await self._exchange(call, manner, passage, receive, send)
            return
        self._admitted.discard(self._task)  # what still comes of the body is thrown away
        self._over(passage, refusal.http_status)
        await refuse(
            send,
            refusal,
            dialect=dialect,
            extra=extra,
            before_end=lambda: incoming.discard(limit=self._settings.max_body_bytes),
        )

    def _take_back(self) -> None:
        """A cancellation that was ours, by ``end``; one that came from the server is raised again."""
        if self._task not in self._sent_away:
            raise asyncio.CancelledError
        self._task.uncancel()

    async def _exchange(self, call: Call, manner: Manner, passage: Passage, receive: Receive, send: Send) -> None:
        exchange = Exchange(
            send,
            dialect=call.dialect,
            model=call.model,
            manner=manner,
            patience=self._patience,
            now=self._clock(),
            request_id=passage.request_id,
            passage=passage,
        )
        await self._serve(call, exchange, receive)

    async def _admit(
        self, dialect: Dialect, headers: dict[bytes, bytes], query: bytes, receive: Receive, passage: Passage
    ) -> tuple[Call, Manner]:
        caller = await self._authenticator.admit(headers, "POST")
        if self._ended:
            raise restarting()
        self._admitted.add(self._task)
        since = self._clock()
        body = await read_body(receive, headers, limit=self._settings.max_body_bytes)
        passage.upload_s = self._clock() - since
        parsed = parse(dialect, body)
        model = await self._catalogue.get(parsed.model)
        passage.model, passage.streamed = model.name, parsed.stream
        await self._authenticator.allow(caller, model.name)
        asked_wait_s = max_wait_s(headers)
        if asked_wait_s is None:
            asked_wait_s = caller.wait_s
        if asked_wait_s is not None:
            asked_wait_s = wait_left_s(query, asked_wait_s, since)
        attempt = self._attempts.count(headers, owner=caller.email, body=body) if not parsed.stream else 0
        call = Call(
            dialect=dialect,
            model=model.name,
            owner=caller.email,
            body=parsed.body,
            stream=parsed.stream,
            strip_usage=parsed.strip_usage,
            affinity=key_of(parsed.request) if model.max_instances > 1 else 0,
            max_wait_s=self._settings.max_wait_s if asked_wait_s is None else asked_wait_s,
            retry=attempt > 0,
            only_peek=asked_wait_s is not None,
            key=caller.key_id,
        )
        return call, Manner.of(headers, stream=parsed.stream, attempt=attempt)

    async def _serve(self, call: Call, exchange: Exchange, receive: Receive) -> None:
        task = self._task
        hangup = self._loop.create_task(_hung_up(receive))
        hangup.add_done_callback(lambda done: None if done.cancelled() or exchange.ended else task.cancel())
        status = 200
        try:
            await self._relay.serve(call, exchange)
        except asyncio.CancelledError:
            if hangup.done():
                status = HUNG_UP
                task.uncancel()
                return
            status = Restarting.status
            await exchange.fail(restarting())
            self._take_back()
        except Aborted:
            raise
        except Exception as error:  # noqa: BLE001 - rendered: a client never hangs on a fault of ours
            failure = as_request_error(error)
            status = failure.http_status
            await exchange.fail(failure)
        finally:
            hangup.cancel()
            self._over(exchange.passage, status)

    def _over(self, passage: Passage, status: int) -> None:
        passage.status = status
        self._record.passed(passage)


def patience(settings: Settings) -> Patience:
    return Patience(
        silent_hold_s=settings.silent_hold_s,
        keepalive_s=settings.keepalive_s,
        chunk_keepalive_s=settings.chunk_keepalive_s,
        edge_read_timeout_s=settings.edge_read_timeout_s,
    )


class Restarting(RequestError):
    """This task is on its way out; the next one answers."""

    status = 503
    default_code = "restarting"


def restarting() -> Restarting:
    return Restarting("The control plane restarts. Ask again.", retry_after_s=5, should_retry=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
