"""The inference routes while the control plane sleeps: check, wish, wake, and send the client on.

Nothing can be streamed from here. A client is held in silence for a while, then sent to the same address again: most
follow a 307 with method, body and key, so a chain of holds bridges the start; the others are told to come back.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control_plane.actions import Done, Refuse
from control_plane.catalogue import Catalogue
from control_plane.chronicle import Chronicle
from control_plane.dialect import DIALECTS, Dialect
from control_plane.door import Principal
from control_plane.errors import MethodNotAllowed, ModelStarting, Stale, StartFailed, Unavailable
from control_plane.exchange import Receive, Scope, Send, refuse
from control_plane.failures import NOT_STARTING, asleep_failure
from control_plane.ports import Clock, Wish, WishStore
from control_plane.routes.admission import WAIT_UNTIL, Incoming, max_wait_s, parse, read_body, wait_left_s
from control_plane.routes.authenticator import Authenticator
from control_plane.routes.fault import as_request_error
from control_plane.settings import Settings
from control_plane.waking import Crowded, Waking
from gpu_node.protocol import Failure

WAKES = (
    "Diogenes wakes up. The same request again is answered, or waits on: clients that follow redirects do that by "
    "themselves (curl: -L)."
)
CROWDED = (
    "Diogenes wakes up, and as many requests wait for it as can be held. The same request again, a little later, is "
    "answered or waits on: the libraries of OpenAI and Anthropic do that by themselves (curl: --retry 2)."
)
COME_BACK_S = 5
AGAIN_S = 30.0  # who was sent on is back by then, or asks anew
MAX_SENT_ON = 1000

log = logging.getLogger(__name__)

_STAY_PUT = (b"pydantic-ai/",)  # clients that were seen not to follow a redirect


@dataclass(frozen=True)
class _Held:
    """How the hold of a request ended."""

    goes_on: bool  # its client shall go to the same address again
    usual_s: float | None  # how long a start of its model takes
    wait_until: float | None  # when its client will have waited as long as it said, if it did


class Asleep:
    """ASGI application of the paths in DIALECTS."""

    def __init__(
        self,
        authenticator: Authenticator,
        catalogue: Catalogue,
        wishes: WishStore,
        waking: Waking,
        chronicle: Chronicle,
        *,
        clock: Clock,
        settings: Settings,
        request_id: Callable[[], str],
    ) -> None:
        self._authenticator = authenticator
        self._catalogue = catalogue
        self._wishes = wishes
        self._waking = waking
        self._chronicle = chronicle
        self._clock = clock
        self._settings = settings
        self._request_id = request_id
        self._sent_on = _SentOn(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = DIALECTS[scope["path"]]
        headers = dict(scope["headers"])
        extra = [(b"x-request-id", self._request_id().encode()), (b"cache-control", b"no-store")]
        try:
            if scope["method"] != "POST":
                extra.append((b"allow", b"POST"))
                raise MethodNotAllowed(f"Only POST is allowed at {dialect.path}.")
            held = await self._admit(dialect, headers, scope.get("query_string", b""), Incoming(receive))
        except Exception as error:  # noqa: BLE001 - rendered: a client never sees a bare 500
            await refuse(send, as_request_error(error), dialect=dialect, extra=extra)
            return
        await self._send_on(scope, send, dialect, held=held, extra=extra)

    async def _admit(self, dialect: Dialect, headers: Mapping[bytes, bytes], query: bytes, incoming: Incoming) -> _Held:
        """Everything up to the end of the hold."""
        came_at = self._clock()
        caller = await self._authenticator.admit(headers, "POST")
        body = await read_body(incoming, headers, limit=self._settings.max_body_bytes)
        model = await self._catalogue.get(parse(dialect, body).model)
        question = self._sent_on.question(caller, dialect, body)
        await self._authenticator.allow(caller, model.name, again=question in self._sent_on)
        asked_s = max_wait_s(headers)
        limit_s = caller.wait_s if asked_s is None else asked_s
        if limit_s is not None:
            limit_s = wait_left_s(query, limit_s, came_at)
        usual_s = await self._waking.usual_start_s(model.name)
        await self._waking.check()
        now = self._clock()
        hold_until = now + self._settings.cancel_grace_s
        if await self._wishes.ask(Wish(model.name, 1, hold_until, caller.email, now, key=caller.key_id)):
            self._chronicle.woken(model.name, by=caller.email)
        patience_s = self._settings.max_wait_s if limit_s is None else limit_s
        try:
            awake = await self._waking.hold(model.name, patience_s, since=came_at)
        except Crowded as crowded:
            self._sent_on.add(question, crowded.come_back_s + AGAIN_S)
            raise _starting(CROWDED, usual_s, come_back_s=crowded.come_back_s) from crowded
        except StartFailed as error:
            if error.failure.code == NOT_STARTING:
                await self._take_back(model.name, error.failure)
            raise
        await self._still_meant(model.name)
        wait_until = None if limit_s is None else came_at + limit_s
        patient = wait_until is None or self._clock() + self._waking.least_s < wait_until
        goes_on = _follows(headers) and (awake or patient)
        if goes_on:
            self._sent_on.add(question)
        return _Held(goes_on, usual_s, wait_until)

    async def _still_meant(self, model: str) -> None:
        """Raises StartFailed where somebody put it to sleep since it was wished for: sent on, its client would wish for
        it again. A table that does not answer holds nobody up."""
        try:
            wishes = await self._wishes.list()
        except Unavailable as error:
            log.warning("wish not seen", extra={"error": str(error)})
            return
        if any(wish.model == model and not wish.desired for wish in wishes):
            raise StartFailed(asleep_failure(model))

    async def _take_back(self, model: str, failure: Failure) -> None:
        """Nobody waits for it any more: else the janitor would wake for it, and keep the node that was begun for it."""
        try:
            for wish in await self._wishes.list():
                if wish.model == model and wish.keep_awake_until <= self._clock():
                    await self._wishes.drop(wish)
                    self._chronicle.acted(Done(Refuse(model, failure, wish)))
        except (Stale, Unavailable) as error:
            log.warning("wish not taken back", extra={"error": str(error)})

    async def _send_on(
        self, scope: Scope, send: Send, dialect: Dialect, *, held: _Held, extra: list[tuple[bytes, bytes]]
    ) -> None:
        """307 to the same path and query; whoever would not go there is told to come back."""
        error = _starting(WAKES, held.usual_s, come_back_s=COME_BACK_S)
        if not held.goes_on:
            await refuse(send, error, dialect=dialect, extra=extra)
            return
        query = _with_end(scope.get("query_string", b""), held.wait_until)
        location = scope["path"].encode() + (b"?" + query if query else b"")
        body = dialect.error_body(error)
        headers = [*extra, (b"location", location), (b"content-type", b"application/json")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _SentOn:
    """The questions that were sent here again: one that comes is no other question, however many holds it takes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def question(self, caller: Principal, dialect: Dialect, body: bytes) -> bytes:
        return hashlib.sha256(f"{caller.key_id} {dialect.path} ".encode() + body).digest()

    def add(self, question: bytes, within_s: float = AGAIN_S) -> None:
        now = self._clock()
        self._until = {known: until for known, until in self._until.items() if until > now}
        if len(self._until) < MAX_SENT_ON:
            self._until[question] = now + within_s

    def __contains__(self, question: bytes) -> bool:
        return self._clock() < self._until.get(question, 0.0)


def _starting(message: str, usual_s: float | None, *, come_back_s: int) -> ModelStarting:
    return ModelStarting(message, retry_after_s=come_back_s, should_retry=True, details={"eta_s": usual_s})


def _follows(headers: Mapping[bytes, bytes]) -> bool:
    return not headers.get(b"user-agent", b"").startswith(_STAY_PUT)


def _with_end(query: bytes, wait_until: float | None) -> bytes:
    """When a bounded wait is over, for whichever process answers next; written once."""
    if wait_until is None or WAIT_UNTIL in query:
        return query
    end = WAIT_UNTIL + b"=" + str(math.floor(wait_until)).encode()
    return query + b"&" + end if query else end
