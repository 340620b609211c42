"""The night watch: the same application as a Lambda function behind the load balancer, while no task runs.

Management and catalogue are answered from the tables. Inference is checked, wished for, and wakes the control plane.
The function keeps its clients between calls; all of it is made at the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from mangum import Mangum

from control_plane import logs
from control_plane.adapters import Adapters, FrontAdapters
from control_plane.app import ControlPlane
from control_plane.exchange import Receive, Scope, Send
from control_plane.front import Doorkeeper
from control_plane.gateway import Gateway
from control_plane.holds import Holds
from control_plane.outside import adapters
from control_plane.ports import Clock
from control_plane.routes.asleep import Asleep
from control_plane.settings import InvalidSettings, Settings
from control_plane.waking import Pace, Sleep, Waking

SCALE_PATH = "/api/cluster/scale"
ORDERS = ("/prewarm", "/cancel")  # end the paths of the other orders
EVENTS_S = 2.0  # what writing events, and when keys were used, may add to a call: after it, the process is frozen

CAUSE = "night watch"


def night_app(
    settings: Settings,
    outside: Adapters,
    front: FrontAdapters,
    *,
    clock: Clock,
    sleep: Sleep = asyncio.sleep,
    pace: Pace | None = None,
) -> Gateway:
    """The application. Inference and an order to scale up wake the control plane; nothing else does."""
    control_plane = ControlPlane(settings, outside, clock=clock, cause=CAUSE, streams=False)
    waking = Waking(
        Doorkeeper(
            front.store, front.hands, clock=clock, linger_s=settings.linger_s, told=control_plane.chronicle.stepped
        ),
        outside.stores.models,
        outside.stores.nodes,
        control_plane.reconciler.once,
        Holds(front.holds, most=settings.max_holds, clock=clock, holder=control_plane.request_id),
        clock=clock,
        sleep=sleep,
        policy=control_plane.policy,
        pace=pace or Pace(),
        propagation_s=settings.propagation_s,
    )
    asleep = Asleep(
        control_plane.authenticator,
        control_plane.catalogue,
        outside.stores.wishes,
        waking,
        control_plane.chronicle,
        clock=clock,
        settings=settings,
        request_id=control_plane.request_id,
    )

    async def inference(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asleep(scope, receive, send)
        finally:
            await control_plane.reception.settle(EVENTS_S)

    async def management(scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await control_plane.management(scope, receive, answer)
            if answer.good and _orders(scope):
                await _begin(control_plane, outside, waking, now=clock())
        finally:
            await control_plane.reception.settle(EVENTS_S)

    return Gateway(inference, management, _nothing_runs)


class _Answer:
    """Hands an answer on, and knows whether it was a good one: an order that was refused is none."""

    good = False

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.good = 200 <= message["status"] < 300
        await self._send(message)


def _orders(scope: Scope) -> bool:
    """Nodes, by hand or before the first question; or none."""
    path = str(scope["path"])
    return scope["method"] == "POST" and (path == SCALE_PATH or path.endswith(ORDERS))


async def _begin(control_plane: ControlPlane, outside: Adapters, waking: Waking, *, now: float) -> None:
    """Somebody just asked for nodes by hand, or for none: all is set going, or what was begun is taken back. No answer
    is held for longer."""
    if any(wish.stands(now) for wish in await outside.stores.wishes.list()):
        await waking.begin()
    else:
        await waking.tidy()


@contextlib.asynccontextmanager
async def _nothing_runs() -> AsyncIterator[None]:
    yield


class Night:
    """The function's process: opened at the first call, on one loop for all of them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises InvalidSettings."""
        self._settings = Settings.from_env(environ)
        if not self._settings.listener_arn:
            raise InvalidSettings("DIOGENES_LISTENER_ARN is missing: there is nothing to wake")
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)  # Mangum runs every request on the current one
        self._open = AsyncExitStack()
        self._mangum: Mangum | None = None

    def __call__(self, event: dict[str, Any], context: Any) -> Mapping[str, Any]:
        if self._mangum is None:
            self._mangum = Mangum(self._loop.run_until_complete(self._made()), lifespan="off")
        return self._mangum(event, context)

    async def _made(self) -> Gateway:
        outside = await self._open.enter_async_context(adapters(self._settings))
        assert outside.front is not None  # the listener is set
        return night_app(self._settings, outside, outside.front, clock=time.time)


_night: Night | None = None


def handler(event: dict[str, Any], context: Any) -> Mapping[str, Any]:
    """What Lambda calls."""
    global _night  # noqa: PLW0603 - a function's process has one
    if _night is None:
        logs.configure()
        _night = Night(os.environ)
    return _night(event, context)
