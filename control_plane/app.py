"""The composition root: settings and adapters in, one ASGI application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import TYPE_CHECKING

from control_plane.accounts import Accounts
from control_plane.adapters import Adapters, FrontAdapters
from control_plane.api_keys import ApiKeys
from control_plane.budget import DEPLOYMENT
from control_plane.catalogue import Catalogue
from control_plane.departure import Departure
from control_plane.effects import Effects
from control_plane.exchange import request_ids
from control_plane.fleet import Fleet
from control_plane.front import Doorkeeper
from control_plane.gateway import Gateway
from control_plane.launcher import Launcher
from control_plane.loops import forever, last
from control_plane.observer import Observer
from control_plane.ports import Clock, Wish
from control_plane.rates import task_rate
from control_plane.reception import Reception
from control_plane.reconciler import Cadence, Reconciler
from control_plane.record import MEASURE_S, Record
from control_plane.relay import LastCall, Relay
from control_plane.repositories import Repositories, unasked
from control_plane.routes.authenticator import Authenticator
from control_plane.routes.cookies import Cookies
from control_plane.routes.inference import Inference, patience, restarting
from control_plane.services import Services
from control_plane.settings import Settings
from control_plane.shapes import Shapes
from control_plane.slumber import Slumber
from control_plane.tuning import allowance, policy
from control_plane.upstream import Upstreams
from control_plane.wants import keeps_warm

if TYPE_CHECKING:
    from control_plane.exposition import Exposition, Now
    from control_plane.routes.gate import Gate
    from control_plane.traces import Traces

BEAT_S = 1.0
FUNCTION_LAUNCH_S = 20.0  # of a ladder in a function, which must live to write what became of it; others go on with it
LAST_ANSWER_S = 20.0  # before streams are cut at the end of a process, no wait ends in an answer: it would be cut too
LAST_EVENTS_S = 2.0  # what the end of the process may take for them
LAST_FLUSH_S = 3.0  # with the last looks of slumber.py, within the ten seconds that ECS leaves a task

log = logging.getLogger(__name__)


class ControlPlane:
    """Everything that runs in one process, wired. ``app`` is what a server serves."""

    _ends_at = math.inf  # what streams, then
    _stopping = False  # it was told to

    def __init__(
        self,
        settings: Settings,
        adapters: Adapters,
        *,
        clock: Clock,
        token: Callable[[], str] = lambda: uuid.uuid4().hex,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        cause: str = "control plane",
        streams: bool = True,
        traces: Traces | None = None,
    ) -> None:
        """``cause`` is whose deed an event is where nobody else is named; without ``streams`` it is a function."""
        holder = token()
        self._settings = settings
        self._stores = adapters.stores
        self._clock = clock
        self._streams = streams
        self.record = Record(
            adapters.events, clock=clock, writer=holder, cause=cause, deployment=settings.namespace, traces=traces
        )
        self.log, self.chronicle = self.record.log, self.record.chronicle
        self.fleet = Fleet(clock=clock, max_waiters=settings.max_waiters)
        self.catalogue = Catalogue(self._stores.models, clock=clock)
        self.keys = ApiKeys(adapters.keys, clock=clock, entropy=entropy, cache_s=settings.key_cache_s)
        self._cookies = Cookies(plain_http=settings.plain_http)
        self.reception = Reception(
            adapters.people,
            self.keys,
            self.log,
            clock=clock,
            entropy=entropy,
            issuer_again_s=settings.issuer_again_s,
        )
        self.authenticator = Authenticator(self.reception.door, self._cookies)
        self.policy = policy(settings)
        self.accounts = Accounts(
            adapters.usage,
            adapters.stores,
            adapters.cloud,
            adapters.limits,
            self.catalogue,
            self.keys if streams else None,  # the janitor sees nobody's
            clock=clock,
            allowance=allowance(settings),
            sizes=self.policy.sizes,
            spend_fresh_s=settings.spend_fresh_s,
            holder=holder,
            billed=streams and adapters.front is not None,
        )
        self.meter = self.accounts.meter
        self.reception.door.guards.append(self.accounts.guard)
        self._upstreams = Upstreams()
        self.relay = self._made_relay()
        self.reconciler = self._made_reconciler(adapters, holder=holder, token=token)
        self._end: asyncio.TimerHandle | None = None  # of all that is open, where the load balancer breaks it
        self._slumber = self._made_slumber(adapters.front)
        self._shapes = Shapes(adapters.shapes, clock=clock)
        self.request_id = request_ids(holder)
        self._inference = self._made_inference()

    @cached_property
    def app(self) -> Gateway:
        """What a server serves."""
        return Gateway(self._inference, lambda *call: self.management(*call), self.running)

    @cached_property
    def management(self) -> Gate:
        """Made when it is first asked for: neither the janitor nor most wakes ever do. A task makes it at its start."""
        return self._made_management()

    @cached_property
    def exposition(self) -> Exposition:
        """What is counted, to be served inside. Loaded by who serves it: the functions do not."""
        from control_plane.exposition import Exposition

        return Exposition(self.record.traffic, self._now)

    def _made_relay(self) -> Relay:
        return Relay(
            self.fleet,
            self._upstreams,
            self.meter,
            ask=self._ask,
            clock=self._clock,
            patience=patience(self._settings),
            waits=self.record.waits,
        )

    def _made_reconciler(self, outside: Adapters, *, holder: str, token: Callable[[], str]) -> Reconciler:
        settings, stores, clock = self._settings, outside.stores, self._clock
        launcher = Launcher(
            outside.cloud,
            stores.nodes,
            stores.launches,
            self.accounts.books,
            clock=clock,
            token=token,
            lease_s=settings.lease_s,
            limit_s=settings.launch_limit_s if self._streams else min(settings.launch_limit_s, FUNCTION_LAUNCH_S),
            memory_s=settings.failure_memory_s,
            hands_on=not self._streams,
        )
        self.observer = Observer(
            stores,
            outside.cloud,
            outside.probe,
            self.fleet,
            self.catalogue,
            self.accounts.spending,
            clock=clock,
            policy=self.policy,
            cloud_watch_s=settings.cloud_watch_s,
            saw=self.record.saw,
        )
        effects = Effects(
            stores,
            outside.cloud,
            self.fleet,
            launcher,
            self.catalogue,
            self.accounts.books,
            clock=clock,
            told=self.record.acted,
            trouble=Repositories(outside.hub, clock=clock).trouble if outside.hub else unasked,
        )
        return Reconciler(
            self.observer,
            effects,
            self.fleet,
            stores.fence,
            clock=clock,
            policy=self.policy,
            cadence=Cadence(settings.tick_s, settings.watch_s),
            holder=holder,
        )

    def _made_management(self) -> Gate:
        from control_plane.management import gated  # here, so that a wake does without FastAPI

        services = Services(
            clock=self._clock,
            stores=self._stores,
            keys=self.keys,
            allowlist=self.reception.allowlist,
            sessions=self.reception.sessions,
            sign_in=self.reception.sign_in,
            catalogue=self.catalogue,
            fleet=self.fleet,
            policy=self.policy,
            spending=self.accounts.spending,
            limits=self.accounts.limits,
            task=self.accounts.task,
            log=self.log,
            chronicle=self.chronicle,
            events=self.record.store,
            feed=self.record.feed if self._streams else None,
            shapes=self._shapes,
        )
        return gated(services, self._cookies, self.authenticator, request_id=self.request_id)

    def _made_inference(self) -> Inference:
        return Inference(
            self.authenticator,
            self.catalogue,
            self.relay,
            self.record,
            clock=self._clock,
            settings=self._settings,
            request_id=self.request_id,
        )

    def _made_slumber(self, front: FrontAdapters | None) -> Slumber | None:
        if front is None:
            return None
        return Slumber(
            Doorkeeper(
                front.store,
                front.hands,
                clock=self._clock,
                linger_s=self._settings.linger_s,
                told=self.chronicle.stepped,
                saw=Departure(front.address, self._put_out, self._put_back).saw,
            ),
            self.needed,
            self.wished,
            clock=self._clock,
            idle_s=self._settings.control_plane_idle_timeout_s,
            propagation_s=self._settings.propagation_s,
            tick_s=self._settings.tick_s,
        )

    def needed(self) -> bool:
        """A request, a node, a launch or a wish needs this process; so it is while nothing is known yet."""
        world = self.observer.world
        if world is None or self._inference.at_work:
            return True
        now = self._clock()
        wished = any(wish.stands(now) for wish in world.wishes.values())
        return wished or bool(world.nodes or world.launches or world.launching)

    async def wished(self) -> bool:
        """The same of wishes alone, as the tables have them now. Raises Unavailable."""
        now = self._clock()
        return any(wish.stands(now) for wish in await self._stores.wishes.list())

    def keeps_warm(self) -> bool:
        """A node that was there at the last look has its warm hours: who asks it shall find this process awake."""
        return keeps_warm(self.observer.world, self._clock())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loops, for as long as the server is up; the ledger is flushed at the end."""
        steps = [
            self.reconciler.turn,
            self.reconciler.watch,
            self._beat,
            self._flush,
            self._flush_reception,
            self._write_events,
            self._measure,
        ]
        if self.record.traces:
            steps.append(self.record.trace)
        if self._slumber:
            steps.append(self._slumber.turn)
        if self.accounts.task:
            steps.append(self.accounts.task.turn)
        tasks = [asyncio.create_task(forever(step)) for step in steps]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._last_flush()
            if self._slumber:
                await self._slumber.last_look()
            await self.reception.settle(LAST_EVENTS_S, last=True)
            self._upstreams.close()

    def send_away(self) -> None:
        """The process is about to stop: what streams goes on. Nobody new may wait here; who does may wait on, until too
        little time is left for an answer, for nodes become ready whoever looks after them. Listeners go at once."""
        self._stopping = True
        self._leave(self._clock() + self._settings.stop_timeout_s)

    def _put_out(self, since: float) -> None:
        """The load balancer takes this task out, since then or later, and breaks in the end what is open: the same, and
        whatever is not over by itself is ended here while it can be told why. What still comes is served until then."""
        settings = self._settings
        ends_at = since + settings.deregistration_delay_s - settings.farewell_s
        log.info("the load balancer takes this task out", extra={"left_s": round(ends_at - self._clock())})
        self._leave(ends_at)
        left_s = max(0.0, ends_at - self._clock())
        self._end = asyncio.get_running_loop().call_later(left_s, self._inference.end)

    def _put_back(self) -> None:
        """Its target stands again: what drained was another's at its address, or somebody registered it anew. Nobody is
        sent away any more; who was, comes again. Nothing of this once it was told to stop."""
        if self._stopping or self._end is None:
            return
        log.info("the load balancer keeps this task")
        self._end.cancel()
        self._ends_at = math.inf
        self.fleet.open()
        self.relay.stay()
        self._inference.open()
        if self.record.feed:
            self.record.feed.open()

    def _leave(self, ends_at: float) -> None:
        self._ends_at = min(self._ends_at, ends_at)
        last_call = LastCall(self._ends_at - LAST_ANSWER_S, restarting())
        self.fleet.close(last_call.error)
        self.relay.leave(last_call)
        if self.record.feed:
            self.record.feed.close()
        if self._slumber:
            self._slumber.leave()

    async def _ask(self, model: str, owner: str, key: str) -> None:
        """The wish of somebody who waits; it never lowers what was asked for by hand."""
        now = self._clock()
        world = self.observer.world
        known = world.wishes.get(model) if world else None
        desired = known.desired if known and known.hold_until > now else 1
        hold_until = now + self._settings.cancel_grace_s
        if await self._stores.wishes.ask(Wish(model, max(1, desired), hold_until, owner, now, key=key)):
            self.chronicle.woken(model, by=owner)

    async def _beat(self) -> None:
        await asyncio.sleep(BEAT_S)
        self.relay.beat()

    async def _flush(self) -> None:
        await asyncio.sleep(self._settings.usage_flush_s)
        await self.meter.flush()

    async def _flush_reception(self) -> None:  # a loop of its own: neither waits for the other, or fails with it
        await asyncio.sleep(self._settings.usage_flush_s)
        await self.reception.flush()

    async def _write_events(self) -> None:
        await self.record.write(self.observer.world if self.reconciler.acts else None)

    async def _measure(self) -> None:
        await asyncio.sleep(MEASURE_S)
        await self.record.measure(self.observer.world, self.fleet.waiters)

    def _now(self) -> Now:
        from control_plane.exposition import Now

        world, task = self.observer.world, self.accounts.task
        nodes = world.nodes if world else ()
        return Now(
            nodes,
            self.fleet.waiters,
            self.relay.streams,
            world.budgets.spent.get(DEPLOYMENT, 0) if world and world.budgets else None,
            sum(node.micro_usd_per_hour for node in nodes) + (task_rate(self.policy.sizes).per_hour if task else 0),
        )

    async def _last_flush(self) -> None:
        flushes = [self.reconciler.close, self.meter.flush]
        if self.accounts.task:
            flushes.append(self.accounts.task.extend)
        if self.record.traces:
            flushes.append(self.record.traces.flush)
        await asyncio.gather(*(last(flush, LAST_FLUSH_S) for flush in flushes))
