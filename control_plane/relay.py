"""From a request to the last byte of its answer: lease an engine, or wake one and wait; then pass bytes on.

Owns the lease and the upstream connection until the last byte or the hang-up, whichever comes first: a client that
hangs up closes the upstream at once, so the engine stops generating. Back-pressure is the sockets' own.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import orjson

from control_plane.continuation import Seam, Transcript
from control_plane.dialect import DIALECTS, Dialect
from control_plane.errors import MAX_RETRY_AFTER_S, EngineLost, ModelStarting, RequestError, StartTimeout, Unavailable
from control_plane.events import (
    AnswerLost,
    EngineError,
    EventStream,
    WholeAnswer,
    cut_short,
    taken_back,
    upstream_error,
)
from control_plane.exchange import Exchange, Manner, Patience
from control_plane.fleet import Fleet, Lease, Waiter
from control_plane.passage import Passage
from control_plane.ports import Clock
from control_plane.spot_stream import BrokenOff, SpotStream
from control_plane.upstream import Upstream, UpstreamLost, Upstreams
from control_plane.usage import Meter, Use

ATTEMPTS = 3  # engines tried for one request, as long as no byte of an answer went out
FATE_S = 15.0  # what an answer that broke off waits for the reason; longer than until an engine is called lost
ASK_AGAIN_S = 1.0  # after a wish that could not be written
MAX_ERROR_BYTES = 64 * 1024
MAX_TOKENIZED_BYTES = 16 * 1024 * 1024
TOKENIZE = "/tokenize"

_PASSED_HEADERS = frozenset({b"content-type", b"content-length"})

_HEADS = {
    path: f"POST {path} HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\ncontent-length: ".encode()
    for path in (*DIALECTS, TOKENIZE)
}

log = logging.getLogger(__name__)

Asker = Callable[[str, str, str], Awaitable[None]]
"""Record the wish of somebody (email, id of a key) for a model, durably, before anything is spent on it."""


class Call(NamedTuple):
    """An inference request that was let in."""

    dialect: Dialect
    model: str
    owner: str
    body: bytes
    stream: bool
    strip_usage: bool
    max_wait_s: float
    affinity: int = 0  # see affinity.key_of
    retry: bool = False  # the client tries again by itself
    only_peek: bool = False  # the client chose its own short wait: tell it to come back, not that it failed
    key: str = ""  # the id of the API key; empty: signed in by browser


class LastCall(NamedTuple):
    """The process is about to end: until when who waits may wait on, and what they are told then."""

    at: float
    error: RequestError


class Relay:
    """Serves calls; ``beat`` keeps the clients of all open ones alive."""

    def __init__(
        self,
        fleet: Fleet,
        upstreams: Upstreams,
        meter: Meter,
        *,
        ask: Asker,
        clock: Clock,
        patience: Patience,
        waits: Callable[[Passage], None] = lambda _: None,
    ) -> None:
        """``waits`` hears of every request that begins to wait for a node."""
        self._fleet = fleet
        self._upstreams = upstreams
        self._meter = meter
        self._ask = ask
        self._clock = clock
        self._patience = patience
        self._waits = waits
        self._open: set[Exchange] = set()
        self._waiting: dict[Exchange, Waiter] = {}
        self._beats: set[asyncio.Task[None]] = set()
        self._last_call: LastCall | None = None

    async def serve(self, call: Call, exchange: Exchange) -> None:
        """Answer the call. Raises RequestError when it cannot be answered, with the exchange in whatever state."""
        self._open.add(exchange)
        try:
            await self._attempt(call, exchange)
        finally:
            self._open.discard(exchange)

    @property
    def streams(self) -> Mapping[str, int]:
        """How many streams engines work on, by model."""
        return Counter(each.model for each in self._open if each.working and each.manner is Manner.STREAM)

    def leave(self, last_call: LastCall) -> None:
        """The process ends soon: who waits may wait on until then, as far as that serves them.

        Who has heard nothing yet hears nothing until the longest silence is over: as long as no 200 is given away they
        can be sent back with a status that their library acts on, to whoever answers then.
        """
        self._last_call = last_call
        self._send_away(last_call, self._clock())

    def stay(self) -> None:
        """It does not end: who waits may wait on."""
        self._last_call = None

    def _send_away(self, last_call: LastCall, now: float) -> None:
        for exchange, waiter in self._waiting.items():
            silent_until = math.inf if exchange.started else exchange.opened_at + self._patience.longest_silence_s
            if now >= min(last_call.at, silent_until):
                waiter.send_away(last_call.error)

    def beat(self) -> None:
        """One round of signs of life, each on its own: a reader that stalls keeps nobody else from theirs."""
        now = self._clock()
        if self._last_call:
            self._send_away(self._last_call, now)
        for exchange in self._open:
            if self._last_call and not exchange.started and exchange in self._waiting:
                continue
            progress = self._fleet.progress(exchange.model)
            if exchange.due(now, launched=progress.launched or exchange.working):
                working = f"model={exchange.model} phase=generating"
                note = working if exchange.working else progress.note(exchange.model, now)
                beat = asyncio.create_task(exchange.beat(now, note))
                self._beats.add(beat)
                beat.add_done_callback(self._beaten)

    def _beaten(self, beat: asyncio.Task[None]) -> None:
        self._beats.discard(beat)
        if not beat.cancelled() and beat.exception():
            log.warning("a sign of life was not sent", exc_info=beat.exception())

    async def _attempt(self, call: Call, exchange: Exchange) -> None:
        """Answers, or goes on with the answer of a Spot node that went away, which is an attempt of its own."""
        begun: Transcript | None = None
        try:
            while True:
                try:
                    return await self._answer(call, exchange, begun)
                except BrokenOff as broken:
                    log.info("an answer goes on elsewhere", extra={"model": call.model, "pieces": broken.sent.pieces})
                    begun = broken.sent
        finally:
            if begun and not exchange.ended:  # what the engines counted is not known
                self._meter.count(Use(call.owner, call.key, call.model, ""), None)

    async def _answer(self, call: Call, exchange: Exchange, begun: Transcript | None) -> None:
        last_error: RequestError | None = None
        for attempt in range(ATTEMPTS):
            lease = self._fleet.acquire(call.model, call.affinity) or await self._wake(call, exchange)
            with lease, self._meter.timed(_use(call, lease)):
                try:
                    await self._ask_engine(call, exchange, lease, begun)
                except UpstreamLost as error:
                    self._fleet.suspect(lease.node.id)
                    last_error = _gone(lease, error)
                except BrokenOff:
                    self._fleet.suspect(lease.node.id)
                    raise
                except AnswerLost as lost:
                    raise await self._explained(lost, lease) from lost
                except EngineError as error:
                    # An engine that is dying answers 500 before it stops answering: let it be probed, and try again.
                    if error.http_status != 500 or attempt:
                        raise
                    self._fleet.suspect(lease.node.id)
                    last_error = error
                else:
                    return
        assert last_error
        raise last_error

    async def _explained(self, lost: AnswerLost, lease: Lease) -> RequestError:
        """The client's error. An engine that died is why; one that lives has said what it has to say."""
        self._fleet.suspect(lease.node.id)
        why = await lease.fate(FATE_S)
        return cut_short(why) if why else lost.error

    # -- waking

    async def _wake(self, call: Call, exchange: Exchange) -> Lease:
        exchange.working = False
        since = self._clock() if exchange.flowing else exchange.opened_at
        passage = exchange.passage
        with self._waiter(call, exchange) as waiter:
            passage.asked_at = passage.asked_at or self._clock()
            self._waits(passage)
            await self._ask_until_heard(call, exchange, waiter)
            passage.wished_at = passage.wished_at or self._clock()
            self._fleet.disturbed.set()
            lease = await self._wait(call, exchange, waiter, since=since)
        passage.leased_at = self._clock()
        waited_ms = round((passage.leased_at - exchange.opened_at) * 1000)
        exchange.add_header(b"x-diogenes-cold-start-ms", str(waited_ms).encode())
        return lease

    @contextmanager
    def _waiter(self, call: Call, exchange: Exchange) -> Iterator[Waiter]:
        """A place in the queue. Raises what the fleet does; and who is sent away hears of it in ``Waiter.granted``."""
        with self._fleet.wait(call.model, retry=call.retry, affinity=call.affinity, begun=exchange.started) as waiter:
            self._waiting[exchange] = waiter
            try:
                yield waiter
            finally:
                del self._waiting[exchange]

    async def _ask_until_heard(self, call: Call, exchange: Exchange, waiter: Waiter) -> None:
        """Raises Unavailable where that can still be told with its true status: the client comes back by itself."""
        while not waiter.granted.done():
            try:
                return await self._ask(call.model, call.owner, call.key)
            except Unavailable:
                if not exchange.started or self._clock() > exchange.opened_at + call.max_wait_s:
                    raise
            # Somebody else's start let the answer begin meanwhile; their wish, and the reconciler, keep it going.
            await asyncio.sleep(ASK_AGAIN_S)

    async def _wait(self, call: Call, exchange: Exchange, waiter: Waiter, *, since: float) -> Lease:
        limit = call.max_wait_s
        if exchange.manner is Manner.HOLD:
            limit = min(limit, self._patience.longest_silence_s)
        limit -= self._clock() - since
        try:
            async with asyncio.timeout(max(limit, 0)):
                await waiter.granted
        except TimeoutError:
            raise self._not_yet(call, exchange) from None
        return waiter.take()

    def _not_yet(self, call: Call, exchange: Exchange) -> RequestError:
        progress = self._fleet.progress(call.model)
        note = progress.note(call.model, self._clock())
        if call.only_peek or exchange.manner is Manner.HOLD:
            eta_s = progress.eta_s(self._clock())
            return ModelStarting(
                f"The model is starting ({note}). Try again in a minute.",
                retry_after_s=MAX_RETRY_AFTER_S if eta_s is None else min(max(round(eta_s), 1), MAX_RETRY_AFTER_S),
                should_retry=True,
                details={"eta_s": eta_s},
            )
        return StartTimeout(
            f"The model was not ready within {call.max_wait_s:.0f} s ({note}). Its start goes on: ask again.",
            should_retry=False,
        )

    # -- passing on

    async def _ask_engine(self, call: Call, exchange: Exchange, lease: Lease, begun: Transcript | None) -> None:
        """Raises UpstreamLost while another engine may still be tried, BrokenOff when it shall go on."""
        exchange.working = True
        exchange.passage.node = lease.node.id
        if begun:
            await self._go_on(call, exchange, lease, begun)
            return
        passage = exchange.passage
        passage.sent_at = passage.sent_at or self._clock()
        upstream = await self._upstreams.post(lease.node.endpoint, _head(call.dialect.path, call.body), call.body)
        try:
            if upstream.status != 200:
                raise await _refusal(call, upstream)
            first = await upstream.read()  # an engine that dies before its first byte is not the client's loss
            passage.first_at = self._clock()
            exchange.add_header(b"x-diogenes-node", lease.node.id.encode())
            await exchange.head(200, _passed(upstream, stream=call.stream))
            if call.stream and lease.node.market == "spot":
                await self._pass_and_keep(call, exchange, SpotStream(call, lease, upstream), first)
            else:
                await self._pass(call, exchange, upstream, first, _use(call, lease))
        finally:
            upstream.close()

    async def _pass(self, call: Call, exchange: Exchange, upstream: Upstream, chunk: bytes, use: Use) -> None:
        answer = EventStream(call.dialect, strip_usage=call.strip_usage) if call.stream else WholeAnswer()
        try:
            last = answer.feed(chunk)
            while not upstream.finished and not answer.error:
                await exchange.pass_on(last, self._clock())
                last = answer.feed(await upstream.read())
            last += answer.rest()
            if answer.error or not answer.complete:
                await exchange.pass_on(last, self._clock())
                raise AnswerLost(answer.error or cut_short())
            await exchange.end(last)  # together: one write less
        except UpstreamLost as error:
            log.warning("engine cut an answer", extra={"model": call.model, "error": str(error)})
            raise AnswerLost(cut_short()) from error
        finally:
            self._meter.count(use, answer.tokens)

    async def _pass_and_keep(self, call: Call, exchange: Exchange, stream: SpotStream, chunk: bytes) -> None:
        """From a node that AWS may take back at any time. Raises BrokenOff when another shall go on."""
        try:
            await exchange.pass_on(stream.feed(chunk), self._clock())
            while chunk := await stream.read():
                await exchange.pass_on(stream.feed(chunk), self._clock())
            await exchange.end(stream.rest())
        except UpstreamLost as error:
            raise stream.broken_off() from error
        finally:
            if exchange.ended or stream.whole_story:
                self._meter.count(_use(call, stream.lease), stream.tokens)

    async def _go_on(self, call: Call, exchange: Exchange, lease: Lease, begun: Transcript) -> None:
        """The rest of an answer. Raises UpstreamLost while another engine may still be tried."""
        said = await self._count_tokens(call, lease, begun)
        body = orjson.dumps(begun.rest(said))
        upstream = await self._upstreams.post(lease.node.endpoint, _head(call.dialect.path, body), body)
        try:
            if upstream.status != 200:
                log.warning("engine did not go on with an answer", extra={"status": upstream.status})
                raise taken_back()
            first = await upstream.read()
            stream = SpotStream(call, lease, upstream, begun=begun, seam=Seam(begun, said))
            await self._pass_and_keep(call, exchange, stream, first)
        finally:
            upstream.close()

    async def _count_tokens(self, call: Call, lease: Lease, begun: Transcript) -> int:
        """How many tokens were said, as the engine counts; where it does not, as many as came piece by piece."""
        if not begun.continued:
            return 0
        question = {"model": call.model, "prompt": begun.continued, "add_special_tokens": False}
        body = orjson.dumps(question)
        upstream = await self._upstreams.post(lease.node.endpoint, _head(TOKENIZE, body), body)
        try:
            told = orjson.loads(await upstream.read_all(MAX_TOKENIZED_BYTES)) if upstream.status == 200 else {}
        except orjson.JSONDecodeError:
            told = {}
        finally:
            upstream.close()
        count = told.get("count")
        return count if isinstance(count, int) else begun.pieces


async def _refusal(call: Call, upstream: Upstream) -> RequestError:
    """The engine's refusal in OpenAI's shape, with its status."""
    body = await upstream.read_all(MAX_ERROR_BYTES)
    try:
        error = upstream_error(orjson.loads(body), status=upstream.status)
    except orjson.JSONDecodeError:
        error = None
    if upstream.status == 404 and b'"detail"' in body:
        error = EngineError(f"{call.model} does not offer {call.dialect.path}.", code="unsupported_route")
    if error is None:
        error = EngineError(f"The engine answered {upstream.status} without saying why.")
    if isinstance(error, EngineError):
        error.answered = upstream.status
    if upstream.status == 503:
        error.retry_after_s = 2  # its queue is full
    return error


def _use(call: Call, lease: Lease) -> Use:
    return Use(call.owner, call.key, call.model, lease.node.id)


def _gone(lease: Lease, error: UpstreamLost) -> EngineLost:
    log.warning("engine lost under a request", extra={"node": lease.node.id, "error": str(error)})
    return EngineLost(f"The engines of {lease.node.model} went away {ATTEMPTS} times under this request. Ask again.")


def _head(path: str, body: bytes) -> bytes:
    return b"%b%d\r\n\r\n" % (_HEADS[path], len(body))


def _passed(upstream: Upstream, *, stream: bool) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in upstream.headers
        if name in _PASSED_HEADERS and not (stream and name == b"content-length")
    ]
