"""The composition root: settings and adapters in, one ASGI application out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi import FastAPI

from control_plane.api_keys import ApiKeys
from control_plane.catalogue import Catalogue
from control_plane.dialect import DIALECTS
from control_plane.effects import Effects, Stores
from control_plane.errors import Unavailable
from control_plane.exchange import Receive, Scope, Send
from control_plane.fleet import Fleet
from control_plane.launcher import Launcher
from control_plane.loops import forever
from control_plane.observer import Observer
from control_plane.plan import Policy
from control_plane.ports import Clock, Cloud, KeyStore, Probe, UsageStore, Wish
from control_plane.reconciler import Cadence, Reconciler
from control_plane.relay import Relay
from control_plane.routes import cluster, keys, models, render
from control_plane.routes.gate import Gate
from control_plane.routes.inference import Inference, patience, restarting
from control_plane.services import Services
from control_plane.settings import Settings
from control_plane.upstream import Upstreams
from control_plane.usage import Ledger

BEAT_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapters:
    """The outside world: AWS in production, memory in tests."""

    stores: Stores
    keys: KeyStore
    usage: UsageStore
    cloud: Cloud
    probe: Probe


class ControlPlane:
    """Everything that runs in one process, wired. ``app`` is what a server serves."""

    def __init__(
        self,
        settings: Settings,
        adapters: Adapters,
        *,
        clock: Clock,
        token: Callable[[], str] = lambda: uuid.uuid4().hex,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        holder = token()
        policy = _policy(settings)
        stores = adapters.stores
        self._settings = settings
        self._stores = stores
        self._clock = clock
        self.fleet = Fleet(clock=clock, max_waiters=settings.max_waiters)
        self.catalogue = Catalogue(stores.models, clock=clock)
        self.keys = ApiKeys(adapters.keys, clock=clock, entropy=entropy, cache_s=settings.key_cache_s)
        self.ledger = Ledger(adapters.usage, clock=clock, writer=holder)
        self._upstreams = Upstreams()
        self.relay = Relay(
            self.fleet,
            self._upstreams,
            self.ledger,
            ask=self._ask,
            clock=clock,
            patience=patience(settings),
        )
        launcher = Launcher(
            adapters.cloud, stores.nodes, stores.launches, clock=clock, token=token, lease_s=settings.lease_s
        )
        self._observer = Observer(
            stores,
            adapters.cloud,
            adapters.probe,
            self.fleet,
            self.catalogue,
            clock=clock,
            policy=policy,
            cloud_watch_s=settings.cloud_watch_s,
        )
        self.reconciler = Reconciler(
            self._observer,
            Effects(stores, adapters.cloud, self.fleet, launcher, self.catalogue, clock=clock),
            self.fleet,
            stores.fence,
            clock=clock,
            policy=policy,
            cadence=Cadence(settings.tick_s, settings.watch_s),
            holder=holder,
        )
        self.app = self._gateway(policy, holder)

    def _gateway(self, policy: Policy, process: str) -> Gateway:
        services = Services(
            clock=self._clock,
            stores=self._stores,
            keys=self.keys,
            catalogue=self.catalogue,
            fleet=self.fleet,
            policy=policy,
        )
        numbers = itertools.count(1)

        def request_id() -> str:  # unique without asking the system for randomness on every request
            return f"req_{process}{next(numbers):x}"

        inference = Inference(
            self.keys,
            self.catalogue,
            self.relay,
            clock=self._clock,
            settings=self._settings,
            request_id=request_id,
        )
        management = Gate(management_app(services), self.keys, request_id=request_id)
        return Gateway(inference, management, self.running)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loops, for as long as the server is up; the ledger is flushed at the end."""
        steps = (self.reconciler.turn, self.reconciler.watch, self._beat, self._flush)
        tasks = [asyncio.create_task(forever(step)) for step in steps]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.reconciler.close()
            await self._last_flush()
            self._upstreams.close()

    def send_away(self) -> None:
        """The process is about to stop: nobody may wait here any more; what streams goes on."""
        self.fleet.close(restarting())

    async def _ask(self, model: str, owner: str) -> None:
        """The wish of somebody who waits; it never lowers what was asked for by hand."""
        now = self._clock()
        world = self._observer.world
        known = world.wishes.get(model) if world else None
        desired = known.desired if known and known.hold_until > now else 1
        hold_until = now + self._settings.cancel_grace_s
        await self._stores.wishes.ask(Wish(model, max(1, desired), hold_until, owner, now))

    async def _beat(self) -> None:
        await asyncio.sleep(BEAT_S)
        self.relay.beat()

    async def _flush(self) -> None:
        await asyncio.sleep(self._settings.usage_flush_s)
        await self.ledger.flush()
        await self.keys.flush()

    async def _last_flush(self) -> None:
        try:
            await self.ledger.flush()
        except Unavailable as error:
            log.error("usage lost at the end", extra={"error": str(error)})


class Gateway:
    """Inference goes straight to the relay, everything else through FastAPI."""

    def __init__(
        self,
        inference: Inference,
        management: Gate,
        running: Callable[[], contextlib.AbstractAsyncContextManager[None]],
    ) -> None:
        self._inference = inference
        self._management = management
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in DIALECTS:
            await self._inference(scope, receive, send)
        elif scope["type"] == "http":
            await self._management(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def management_app(services: Services) -> FastAPI:
    """The routes that FastAPI serves."""
    app = FastAPI(
        title="Diogenes",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,  # it would name whatever host and scheme stood in front of us
    )
    app.state.services = services
    for routes in (cluster, models, keys):
        app.include_router(routes.router)
    render.install(app)
    return app


def _policy(settings: Settings) -> Policy:
    return Policy(
        lease_s=settings.lease_s,
        drain_timeout_s=settings.drain_timeout_s,
        boot_limit_s=settings.boot_limit_s,
        claim_limit_s=settings.claim_limit_s,
        silent_node_s=settings.silent_node_s,
        cancel_grace_s=settings.cancel_grace_s,
        failure_memory_s=settings.failure_memory_s,
    )
