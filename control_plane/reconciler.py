"""Observe, plan, apply: one tick. A loop calls it here; a schedule or a simulation may call it as well.

At most one reconciler acts: each holds an epoch, and stops as soon as somebody holds a newer one; it goes on when
that one has given no sign of life for a while. Until then it does what nobody else can: for those who wait and stream
here. What a tick does may be done twice, and what it did not get to do is seen again by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from control_plane.actions import Action, HandOver, Hold, Refuse, Repeat, Start
from control_plane.effects import Effects
from control_plane.errors import Stale, Unavailable
from control_plane.fleet import Fleet
from control_plane.launcher import Tenure, unfenced
from control_plane.loops import either
from control_plane.observer import Observer
from control_plane.plan import OTHERS_NOTICE_S, plan
from control_plane.policy import Policy
from control_plane.ports import Clock, Fence, Term

ABANDONED_S = 60.0  # a reconciler that gave no sign of life for so long is gone
LOOK_S = 0.6 * OTHERS_NOTICE_S  # the most between two looks at the nodes: a tick, and what its reads take

log = logging.getLogger(__name__)


class Superseded(Exception):
    """Somebody holds a newer epoch."""


@dataclass(frozen=True)
class Cadence:
    """How often to look; seconds."""

    tick_s: float = 5.0
    watch_s: float = 0.25


class Reconciler:
    """The one that acts."""

    def __init__(
        self,
        observer: Observer,
        effects: Effects,
        fleet: Fleet,
        fence: Fence,
        *,
        clock: Clock,
        policy: Policy,
        cadence: Cadence,
        holder: str,
    ) -> None:
        self._observer = observer
        self._effects = effects
        self._fleet = fleet
        self._fence = fence
        self._clock = clock
        self._policy = policy
        self._cadence = cadence
        self._holder = holder
        self._term: Term | None = None
        self._superseded = False
        self._since = 0.0
        self._launching: dict[str, asyncio.Task[None]] = {}
        self._launches = True

    @property
    def acts(self) -> bool:
        """False while another does."""
        return not self._superseded

    # -- steps of the loops

    async def turn(self) -> None:
        """A tick, then a pause: until something happens or a suspect is to be judged, at most ``tick_s``."""
        try:
            await self.tick()
        except Superseded:
            log.warning("a newer reconciler has taken over; this one only watches")
            await self._stand_by()
        await self._pause()

    async def watch(self) -> None:
        """Tell the fleet what runs: often while somebody waits or something starts. Raises Unavailable.

        At any time often enough to send nothing to a node that another reconciler drains: it counts on that. As a rule
        the looks of the ticks are enough for it.
        """
        if self._fleet.waiters or self._observer.starting:
            await asyncio.sleep(self._cadence.watch_s)
        else:
            await either(self._fleet.waited_for, self._unseen_s)
            if self._unseen_s and not self._fleet.waiters:
                return  # a tick looked meanwhile
        await self._observer.look()

    async def tick(self) -> None:
        """One round. Raises Superseded, or Unavailable when the tables cannot be read.

        A launch may take long: it goes on beside the ticks, one a model.
        """
        # First: between the hold and what is done because of it lies as little as can be.
        await self._observer.prepare()
        term = await self._hold()
        for action in await self._decided(term):
            match action:
                case Start(model=model):
                    known = self._observer.groups is not None  # else nobody knows yet where it could be launched
                    if known and self._launches:
                        self._launch(model, action)
                case Repeat(launch):
                    if self._launches:  # it may be the first time that AWS hears of it
                        self._launch(launch.model, action)
                case _:
                    await self._try(action)

    async def once(self, *, launches: bool = True) -> bool:
        """One tick in the place of a reconciler that is not there, with the launches that it begins, if it may.

        False when one is there, or was a moment ago. Raises Unavailable.
        """
        self._launches = launches
        if self._clock() - await self._fence.seen_at() < ABANDONED_S:
            return False  # so most end here, with one read: what is prepared is a month's facts
        await self._observer.prepare()
        try:
            self._term = await self._fence.take_over(self._holder, silent_s=ABANDONED_S)
        except Stale:
            return False
        self._since = self._clock()
        term = self._term
        try:
            await self.tick()
            await asyncio.gather(*self._launching.values())
        except Superseded:
            return False
        finally:
            await self._cut_off()  # a function stands still between two calls, and would go on with it in the next
            self._term = None
            with contextlib.suppress(Stale):
                await self._fence.release(term)
        return True

    async def close(self) -> None:
        """Stop, and let go."""
        await self._cut_off()
        if self._term is not None:
            with contextlib.suppress(Stale, Unavailable):
                await self._fence.release(self._term)

    async def _cut_off(self) -> None:
        """The launches that are under way. Each left its intent: the next reconciler repeats it."""
        tasks = list(self._launching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _unseen_s(self) -> float:
        """How long the last look at the nodes is enough for, while nobody waits."""
        return min(max(0.0, self._observer.looked_at + LOOK_S - self._clock()), LOOK_S)

    # -- who acts

    async def _hold(self) -> Term:
        if self._term is None:
            self._term = await self._fence.take(self._holder)
            self._since = self._clock()
            return self._term
        try:
            await self._fence.hold(self._term)
        except Stale as error:
            raise Superseded from error
        return self._term

    async def _stand_by(self) -> None:
        """Look on, and return when the newer one has been silent for so long that this one must act again.

        Whom requests here suspect, and who waits here, only this one knows: it clears the former, or they get nothing
        from here for good, and keeps the wish of the latter, or the newer one takes their node for nobody's.
        """
        assert self._term
        self._superseded = True
        while self._clock() - await self._fence.seen_at() < ABANDONED_S:
            await self._observer.prepare()
            for action in await self._decided(self._term):
                if (ours := _of_this_task(action)) is not None:
                    await self._try(ours)
            await self._pause()
        log.warning("the newer reconciler fell silent; this one acts again")
        self._term, self._superseded = None, False

    async def _decided(self, term: Term) -> Sequence[Action]:
        world = await self._observer.observe(
            launching=frozenset(self._launching), since=self._since, ousted_at=term.ousted_at
        )
        return plan(world, self._clock(), self._policy)

    async def _pause(self) -> None:
        await either(self._fleet.disturbed, min(self._cadence.tick_s, self._observer.next_verdict_s))

    # -- apply

    def _launch(self, model: str, action: Action) -> None:
        if model not in self._launching:
            assert self._term
            hold = partial(self._fence.hold, self._term)  # of the term in which it was decided, whatever comes later
            task = self._launching[model] = asyncio.create_task(self._try(action, hold=hold))
            task.add_done_callback(lambda _: self._launched(model))

    def _launched(self, model: str) -> None:
        del self._launching[model]
        self._fleet.disturbed.set()

    async def _try(self, action: Action, *, hold: Tenure = unfenced) -> None:
        """One action; a lost race or a silent AWS leaves it to the next tick, unhurried: no loop gets hot."""
        try:
            await self._effects.apply(action, self._observer.groups or (), hold=hold)
        except Stale as error:
            log.info("race lost", extra={"action": type(action).__name__, "error": str(error)})
        except Unavailable as error:
            log.warning("action failed", extra={"action": type(action).__name__, "error": str(error)})


def _of_this_task(action: Action) -> Action | None:
    """As much of an action as concerns those alone who wait or stream here; None where another sees to all of it."""
    match action:
        case Hold() | HandOver():
            return action
        case Refuse():
            return replace(action, wish=None)
        case _:
            return None
