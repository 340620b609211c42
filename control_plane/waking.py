"""Getting the control plane up for somebody who asked while it slept.

A process of the function stands still from its answer on, and nobody knows whether it ever goes on. What an answer does
not wait for must be another's to finish: the wake is in the front's item, the launch is an intent in the table, and the
task that comes up, or the janitor, repeats its call with the same token.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from control_plane.errors import MAX_RETRY_AFTER_S, StartFailed, Unavailable
from control_plane.front import Doorkeeper, resting
from control_plane.holds import Holds
from control_plane.nodes import THERE
from control_plane.policy import Policy, standing_failure
from control_plane.ports import Clock, Front, FrontState, ModelStore, NodeStore
from gpu_node.protocol import NodeState

CUT_OFF_S = 1.0  # what a launch that is cut off gets to let go of its epoch, which nobody could take for a minute else

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


class Tick(Protocol):
    """See ``Reconciler.once``."""

    async def __call__(self, *, launches: bool) -> bool: ...


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    hold_s: float = 45.0  # from the request on: below what the edge allows between bytes, and the function's time limit
    poll_s: float = 1.0  # of the table
    look_s: float = 1.0  # of AWS, for all who wait together
    settle_s: float = 2.0  # from the turn of the listener until a redirected client finds it turned, if all goes well
    max_settle_s: float = 20.0  # of one who was sent on, and came here again
    launch_s: float = 2.0  # of a launch that nobody waits for: so AWS has the call, as a rule
    launch_again_s: float = 5.0  # after a tick that came to nothing


class Crowded(Exception):
    """As many clients are held as may be, and this one can be none of them; all is set going for it."""

    def __init__(self, come_back_s: int) -> None:
        super().__init__(f"nobody more can be held; come back in {come_back_s} s")
        self.come_back_s = come_back_s


class Waking:
    """The service's task and the first launch go on side by side; whoever comes meanwhile joins in.

    After a wake that failed, nothing is launched before the control plane is up, which does it then.
    """

    def __init__(
        self,
        keeper: Doorkeeper,
        models: ModelStore,
        nodes: NodeStore,
        tick: Tick,
        holds: Holds,
        *,
        clock: Clock,
        sleep: Sleep,
        policy: Policy,
        pace: Pace,
        propagation_s: float,
    ) -> None:
        """``tick`` is one of a reconciler, where none is at work.

        ``propagation_s`` seconds after the turn of the listener, nothing arrives here any more.
        """
        self._keeper = keeper
        self._models = models
        self._nodes = nodes
        self._tick = tick
        self._holds = holds
        self._clock = clock
        self._sleep = sleep
        self._policy = policy
        self._pace = pace
        self._propagation_s = propagation_s

    @property
    def least_s(self) -> float:
        """Nobody is held who has no more than this left: sent here again, they would be sent on at once."""
        return self._pace.poll_s

    async def hold(self, model: str, limit_s: float, *, since: float) -> bool:
        """True once the control plane answers, False when the time is over. The model's wish must stand already.

        ``since`` is when the request came: what was spent on it before is no longer there to be held. Raises
        StartFailed as soon as it is known that the model, or the control plane, cannot start; Crowded at once, where
        nobody more can be held, and after all was begun that a hold begins with.
        """
        last = since + self._pace.hold_s
        until = min(self._clock() + limit_s, last)
        launching = self._launching(partial(self._launched, model))
        async with AsyncExitStack() as held:  # around the end of the launch: it takes an execution as well
            try:
                front = await self._seen(self._keeper.read, last)
                if front is None or front.failure is None:
                    launching.begin()
                sent_on = await self._joined(last)  # a look that moves it leaves it to the next one to raise the count
                front = await self._joined(last)
                if not (front or self._goes_on(launching, until)):
                    return False
                if not await held.enter_async_context(self._holds.slot(since=since)):
                    until = self._clock()  # nobody waits for its launch
                    raise Crowded(self._come_back_s(front))
                while not front:
                    await self._sleep(self._pace.poll_s)
                    front = await self._joined(last)
                    if not (front or self._goes_on(launching, until)):
                        return False
                await self._settle(front if sent_on else None, last)
                return True
            finally:
                now = self._clock()
                await launching.end(max(0.0, min(max(now + self._pace.launch_s, until), last) - now))

    async def begin(self) -> None:
        """Set it all going, and hold nobody for longer than AWS takes to hear of it."""
        last = self._clock() + self._pace.hold_s
        await self._looked(last)
        await self._looked(last)  # as above
        front = await self._seen(self._keeper.read, last)  # also where AWS let nobody look
        if not (front and front.failure):
            await self._briefly(self._ticked, last - self._clock())

    async def tidy(self) -> None:
        """What was begun and is wanted no more goes now, and not in the janitor's next round. Wakes nobody."""
        await self._briefly(self._tidied)

    async def check(self) -> None:
        """Raises StartFailed for a while after a wake that failed; Unavailable."""
        self._refuse(await self._keeper.read())

    async def usual_start_s(self, model: str) -> float | None:
        """How long its starts take, if that is known.

        Raises StartFailed while a failure of it stands, unless a node of it serves all the same; Unavailable.
        """
        row = next((row for row in await self._models.list() if row.name == model), None)
        failure = standing_failure(row, self._clock(), self._policy)
        if failure and not await self._has(model, {NodeState.READY}):
            raise StartFailed(failure)
        return row.usual_start_s if row else None

    async def _has(self, model: str, states: Set[NodeState]) -> bool:
        return any(node.model == model and node.state in states for node in await self._nodes.list())

    def _goes_on(self, launching: _Launching, until: float) -> bool:
        """Is there time for another look? Raises StartFailed."""
        launching.again()
        return self._clock() + self._pace.poll_s <= until

    def _come_back_s(self, front: Front | None) -> int:
        """When who cannot be held shall ask again; ``front`` where it is awake.

        Each retry costs the client one of two: as long as may be while all wakes, so that both span most of a wake;
        once the listener turned, as long as the turn may still take to arrive, so that one is enough.
        """
        if front is None:
            return MAX_RETRY_AFTER_S
        left_s = front.since + self._propagation_s - self._clock()
        return min(max(math.ceil(left_s), 1), MAX_RETRY_AFTER_S)

    async def _settle(self, front: Front | None, last: float) -> None:
        """The listener turned when the front became awake, and every way to it learns of that in its own time: whoever
        is sent on too early comes here again, and has one redirect less. So each time as long again as it took so far.

        ``front`` is what it was when the request came, where it was awake then.
        """
        age_s = self._clock() - front.since if front else 0.0
        pause_s = min(age_s + self._pace.settle_s, self._pace.max_settle_s)
        await self._sleep(max(0.0, min(pause_s, last - self._clock())))

    async def _joined(self, last: float) -> Front | None:
        """The front, once it is awake. Raises StartFailed."""
        front = await self._seen(lambda: self._keeper.join(every_s=self._pace.look_s), last)
        if front is None:
            return None
        self._refuse(front)
        return front if front.state is FrontState.AWAKE else None

    async def _looked(self, last: float) -> Front | None:
        return await self._seen(lambda: self._keeper.look(wanted=True), last)

    async def _seen(self, look: Callable[[], Awaitable[Front]], last: float) -> Front | None:
        """Until when it may take: AWS may be long in saying nothing."""
        try:
            async with asyncio.timeout(max(0.0, last - self._clock())):
                return await look()
        except (Unavailable, TimeoutError) as error:
            log.warning("front not seen", extra={"error": str(error) or "no answer in time"})
            return None

    def _refuse(self, front: Front) -> None:
        if failure := resting(front, self._clock()):
            raise StartFailed(failure)

    async def _briefly(self, launched: Callable[[], Awaitable[bool]], left_s: float = math.inf) -> None:
        """For somebody who is not to be held."""
        launching = self._launching(launched)
        launching.begin()
        await launching.end(max(0.0, min(self._pace.launch_s, left_s)))

    def _launching(self, launched: Callable[[], Awaitable[bool]]) -> _Launching:
        return _Launching(launched, clock=self._clock, again_s=self._pace.launch_again_s)

    async def _launched(self, model: str) -> bool:
        """A tick. False where no node of the model comes of it: it was not ours to make or not to be finished, or could
        not see where there is one to be had, or was not told. Raises StartFailed where it is known that none comes,
        whoever found out: a task that drains after it fell asleep is at work for minutes."""
        ticked = await self._ticked()
        try:
            await self.usual_start_s(model)
            return ticked and await self._has(model, THERE)
        except Unavailable as error:
            log.warning("launch not seen", extra={"error": str(error)})
            return False

    async def _tidied(self) -> bool:
        """What the first drains, the second takes down. Neither launches: it may be that no control plane comes up."""
        return await self._ticked(launches=False) and await self._ticked(launches=False)

    async def _ticked(self, *, launches: bool = True) -> bool:
        """False where this tick was not ours to make, or not to be finished."""
        try:
            return await self._tick(launches=launches)
        except Unavailable as error:
            log.warning("launch left to the control plane", extra={"error": str(error)})
            return False


class _Launching:
    """A tick beside a hold, and another where it came to nothing."""

    def __init__(self, launched: Callable[[], Awaitable[bool]], *, clock: Clock, again_s: float) -> None:
        self._launched = launched
        self._clock = clock
        self._again_s = again_s
        self._task: asyncio.Future[bool] | None = None
        self._again_at = 0.0

    def begin(self) -> None:
        self._again_at = self._clock() + self._again_s
        self._task = asyncio.ensure_future(self._launched())

    def again(self) -> None:
        """Raises what the tick did: StartFailed."""
        if self._task and self._task.done() and not self._task.result() and self._clock() >= self._again_at:
            self.begin()  # another tick was at work, from before our wish; or a table, or AWS, did not answer this one

    async def end(self, limit_s: float) -> None:
        """What is not over by then is cut off, and left its intent: the control plane repeats its call."""
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=limit_s)
        if self._task.cancel():
            await asyncio.wait([self._task], timeout=CUT_OFF_S)
