"""What every management request passes before FastAPI looks at it: a request id, who calls, a bound for its body."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

from control_plane.dialect import CHAT
from control_plane.exchange import Application, Receive, Scope, Send, refuse
from control_plane.routes.access import PUBLIC
from control_plane.routes.admission import Incoming, read_body
from control_plane.routes.authenticator import PRINCIPAL, READMIT, Authenticator
from control_plane.routes.fault import as_request_error

MAX_BODY_BYTES = 64 * 1024
_JSON = (b"content-type", b"application/json")


class Gate:
    """ASGI application in front of another. Nothing of a stranger is read, let alone parsed."""

    def __init__(self, app: Application, authenticator: Authenticator, *, request_id: Callable[[], str]) -> None:
        self._app = app
        self._authenticator = authenticator
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        extra = [(b"x-request-id", self._request_id().encode()), (b"cache-control", b"no-store")]
        incoming = Incoming(receive)
        try:
            if f"{scope['method']} {scope['path']}" not in PUBLIC:
                scope[READMIT] = partial(self._authenticator.admit, headers, scope["method"])
                scope[PRINCIPAL] = await scope[READMIT]()
            body = await read_body(incoming, headers, limit=MAX_BODY_BYTES)
        except Exception as error:  # noqa: BLE001 - rendered: a client never sees a bare 500
            await refuse(
                send,
                as_request_error(error),
                dialect=CHAT,  # OpenAI's error shape
                extra=[*extra, (b"connection", b"close")],
                before_end=lambda: incoming.discard(limit=MAX_BODY_BYTES),
            )
            return
        # Nothing but JSON is spoken here, and curl's -d says that it sends a form.
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"content-type"] + [_JSON]
        await self._app(scope, _replay(body, incoming), _adding(extra, send))


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then whatever comes."""
    pending: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> MutableMapping[str, Any]:
        return pending.pop() if pending else await receive()

    return receiving


def _adding(extra: list[tuple[bytes, bytes]], send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return sending
