"""Getting the control plane up for somebody who asked while it slept."""

from __future__ import annotations

import asyncio
import contextlib
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

    hold_s: float = 45.0  # from the request on: below what the edge allows between bytes, and the function's time limit
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

    async def hold(self, model: str, limit_s: float, *, since: float) -> bool:
        """True once the control plane answers, False when the time is over. The model's wish must stand already.

        ``since`` is when the request came: what was spent on it before is no longer there to be held. Raises
        StartFailed as soon as it is known that the model cannot start.
        """
        last = since + self._pace.hold_s
        until = min(self._clock() + limit_s, last)
        launching = asyncio.ensure_future(self._launched(model))
        try:
            await self._awake(last)  # a look that moves the front leaves it to the next one to raise the count
            while not await self._awake(last):
                if launching.done() and not launching.result():  # another tick was at work, from before our wish
                    launching = asyncio.ensure_future(self._launched(model))
                if self._clock() + self._pace.poll_s > until:
                    return False
                await self._sleep(self._pace.poll_s)
            await self._sleep(self._pace.settle_s)
            return True
        finally:
            # What is cut off here left its intent: the control plane repeats the call with the same token.
            now = self._clock()
            await asyncio.wait([launching], timeout=max(0.0, min(max(now + self._pace.launch_s, until), last) - now))
            launching.cancel()

    async def begin(self) -> None:
        """Set it all going, and hold nobody longer than a request. Raises Unavailable."""
        last = self._clock() + self._pace.hold_s
        await self._awake(last)
        await self._awake(last)  # as above
        with contextlib.suppress(TimeoutError):  # as above: its intent stands
            async with asyncio.timeout(max(0.0, last - self._clock())):
                await self._launch()

    async def usual_start_s(self, model: str) -> float | None:
        """How long its starts take, if that is known. Raises StartFailed while a failure of it stands; Unavailable."""
        row = next((row for row in await self._models.list() if row.name == model), None)
        failure = standing_failure(row, self._clock(), self._policy)
        if failure:
            raise StartFailed(failure)
        return row.usual_start_s if row else None

    async def _awake(self, last: float) -> bool:
        """Until when it may take: AWS may be long in saying nothing."""
        try:
            async with asyncio.timeout(max(0.0, last - self._clock())):
                front = await self._keeper.look(wanted=True)
        except (Unavailable, TimeoutError) as error:
            log.warning("front not seen", extra={"error": str(error) or "no answer in time"})
            return False
        return front.state is FrontState.AWAKE

    async def _launched(self, model: str) -> bool:
        """False where this tick was not ours to make, or not to be finished."""
        try:
            acted = await self._launch()
            if acted:
                await self.usual_start_s(model)
        except Unavailable as error:
            log.warning("launch left to the control plane", extra={"error": str(error)})
            return False
        return acted
