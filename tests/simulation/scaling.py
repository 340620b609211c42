"""The one management route that matters here, without FastAPI: it runs its dependencies in threads, out of our time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from control_plane.adapters import Adapters
from control_plane.app import ControlPlane
from control_plane.errors import StartFailed, Unavailable
from control_plane.exchange import Application, Receive, Scope, Send
from control_plane.night import SCALE_PATH
from control_plane.services import Services
from control_plane.shapes import Shapes
from tests.simulation.settings import KEY_ROW


def services_of(plane: ControlPlane, adapters: Adapters) -> Services:
    return Services(
        clock=lambda: plane.fleet._clock(),
        stores=adapters.stores,
        keys=plane.keys,
        allowlist=plane.reception.allowlist,
        sessions=plane.reception.sessions,
        sign_in=plane.reception.sign_in,
        catalogue=plane.catalogue,
        fleet=plane.fleet,
        policy=plane.policy,
        spending=plane.accounts.spending,
        log=plane.log,
        chronicle=plane.chronicle,
        events=None,
        feed=None,
        shapes=Shapes(None, clock=lambda: plane.fleet._clock()),
    )


def scaling(app: Application, made: Callable[[], Services], after: Callable[[], Awaitable[None]]) -> Application:
    """``app``, and POST /api/cluster/scale as its route does it, with services that are made for it; ``after`` follows
    the answer."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != SCALE_PATH:
            await app(scope, receive, send)
            return
        asked = orjson.loads((await receive())["body"])
        status, services = 202, made()
        try:
            model = await services.catalogue.get(asked["model"])
            await services.scale(model, min(asked["desired"], model.max_instances), by=KEY_ROW.email, key=KEY_ROW.id)
        except Unavailable:
            status = 503
        except StartFailed:  # a budget forbids it
            status = 402
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        if status == 202:
            await after()

    return call
