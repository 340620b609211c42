"""The janitor: on a schedule, one look at the front, and one reconciler's tick where no control plane is at work."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_plane import logs
from control_plane.app import Adapters, ControlPlane, FrontAdapters
from control_plane.front import Doorkeeper
from control_plane.outside import adapters
from control_plane.ports import Clock
from control_plane.settings import InvalidSettings, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """What one round found."""

    state: str  # of the front, afterwards
    acted: bool  # False: a control plane is at work, or was a moment ago


async def clean(settings: Settings, outside: Adapters, front: FrontAdapters, *, clock: Clock) -> Round:
    """One round. A wish that nobody serves wakes the control plane. Raises Unavailable: the next round tries again."""
    now = clock()
    wishes = await outside.stores.wishes.list()
    wanted = any(wish.desired and wish.hold_until > now for wish in wishes)
    acted = await ControlPlane(settings, outside, clock=clock).reconciler.once()
    keeper = Doorkeeper(front.store, front.hands, clock=clock)
    await keeper.look(wanted=wanted)
    state = (await keeper.look(wanted=wanted)).state  # what a move made necessary
    return Round(str(state), acted)


async def _round(settings: Settings) -> Round:
    async with adapters(settings) as outside:
        assert outside.front is not None  # the listener is set
        return await clean(settings, outside, outside.front, clock=time.time)


def handler(event: Any, context: Any) -> Mapping[str, Any]:
    """What Lambda calls. Raises what went wrong: Lambda counts it, and the schedule calls again."""
    logs.configure()
    settings = Settings.from_env(os.environ)
    if not settings.listener_arn:
        raise InvalidSettings("DIOGENES_LISTENER_ARN is missing: there is no front to look after")
    found = asyncio.run(_round(settings))
    log.info("janitor's round", extra={"state": found.state, "acted": found.acted})
    return {"state": found.state, "acted": found.acted}
