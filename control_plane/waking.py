"""Getting the control plane up for somebody who asked while it slept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from control_plane.errors import StartFailed, Unavailable
from control_plane.front import Doorkeeper
from control_plane.policy import Policy, standing_failure
from control_plane.ports import Clock, FrontState, ModelStore

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    hold_s: float = 45.0  # below what the edge allows between bytes, and the function's own time limit
    poll_s: float = 1.0
    settle_s: float = 2.0  # from the turn of the listener until a redirected client finds it turned
    launch_s: float = 10.0  # a launch may finish, however short the client's own patience is


class Waking:
    """The service's task and the first launch go on side by side; whoever comes meanwhile joins in."""

    def __init__(
        self,
        keeper: Doorkeeper,
        models: ModelStore,
        launch: Callable[[], Awaitable[bool]],
        *,
        clock: Clock,
        sleep: Sleep,
        policy: Policy,
        pace: Pace,
    ) -> None:
        """``launch`` is one tick of a reconciler, where none is at work."""
        self._keeper = keeper
        self._models = models
        self._launch = launch
        self._clock = clock
        self._sleep = sleep
        self._policy = policy
        self._pace = pace

    async def hold(self, model: str, limit_s: float) -> bool:
        """True once the control plane answers, False when the time is over. The model's wish must stand already.

        Raises StartFailed as soon as it is known that the model cannot start.
        """
        until = self._clock() + min(limit_s, self._pace.hold_s)
        launching = asyncio.ensure_future(self._launched(model))
        try:
            await self._awake()  # a look that moves the front leaves it to the next one to raise the count
            while not await self._awake():
                if launching.done():
                    launching.result()
                if self._clock() + self._pace.poll_s > until:
                    return False
                await self._sleep(self._pace.poll_s)
            await self._sleep(self._pace.settle_s)
            return True
        finally:
            # What is cut off here left its intent: the control plane repeats the call with the same token.
            await asyncio.wait([launching], timeout=max(self._pace.launch_s, until - self._clock()))
            launching.cancel()

    async def begin(self) -> None:
        """Set it all going, and hold nobody. Raises Unavailable."""
        await self._awake()
        await self._awake()  # as above
        await self._launch()

    async def refuse_what_stands(self, model: str) -> None:
        """Raises StartFailed while a failure of the model still stands; Unavailable."""
        for row in await self._models.list():
            failure = standing_failure(row, self._clock(), self._policy)
            if row.name == model and failure:
                raise StartFailed(failure)

    async def _awake(self) -> bool:
        try:
            front = await self._keeper.look(wanted=True)
        except Unavailable as error:
            log.warning("front not seen", extra={"error": str(error)})
            return False
        return front.state is FrontState.AWAKE

    async def _launched(self, model: str) -> None:
        try:
            await self._launch()
        except Unavailable as error:
            log.warning("launch left to the control plane", extra={"error": str(error)})
            return
        await self.refuse_what_stands(model)
