"""The night watch's function: the real application, and its scale route without FastAPI."""

from __future__ import annotations

import asyncio
from functools import cache

from control_plane.adapters import Adapters
from control_plane.app import ControlPlane
from control_plane.exchange import Application
from control_plane.front import Doorkeeper
from control_plane.holds import Holds
from control_plane.night import _begin, night_app
from control_plane.ports import Clock
from control_plane.settings import Settings
from control_plane.waking import Pace, Waking
from tests.simulation.scaling import scaling, services_of

POLL_S = 4.0  # every look is a race with all that moves meanwhile, however many there are


def function(settings: Settings, adapters: Adapters, *, clock: Clock) -> Application:
    """What one process of the function serves. Made on its loop."""
    assert adapters.front
    pace = Pace(poll_s=POLL_S)
    # Most processes are never asked to scale.
    plane = cache(lambda: ControlPlane(settings, adapters, clock=clock, streams=False))

    async def begin() -> None:
        await _begin(plane(), adapters, _waking(plane(), settings, adapters, clock=clock, pace=pace), now=clock())

    app = night_app(settings, adapters, adapters.front, clock=clock, pace=pace)
    return scaling(app, lambda: services_of(plane(), adapters), begin)


def _waking(plane: ControlPlane, settings: Settings, adapters: Adapters, *, clock: Clock, pace: Pace) -> Waking:
    assert adapters.front
    return Waking(
        Doorkeeper(adapters.front.store, adapters.front.hands, clock=clock, linger_s=settings.linger_s),
        adapters.stores.models,
        adapters.stores.nodes,
        plane.reconciler.once,
        Holds(adapters.front.holds, most=settings.max_holds, clock=clock, holder=plane.request_id),
        clock=clock,
        sleep=asyncio.sleep,
        policy=plane.policy,
        pace=pace,
        propagation_s=settings.propagation_s,
    )
