"""Who answers: the night watch or the control plane. Level-triggered: whoever looks, mends.

``correction`` decides from one look (pure); ``Doorkeeper`` looks, decides and acts. The night watch runs it while it
holds a request, the janitor on its schedule, and the control plane in its loop; none of them needs another of them.

 1. Wanted, and ASLEEP: WAKING. FALLING-ASLEEP is taken back, to AWAKE while the task still serves, else to WAKING.
 2. WAKING: one task; once it is healthy, the listener faces it, and then the state is AWAKE. Nothing ever faces a
    task that is not healthy, or that was healthy when it was woken: that one may just be told to end (5), and only
    one that outlives it for a while is sure to stay. A wake whose tasks end again and again, or that takes too long,
    is given up, whoever waits: ASLEEP, with the reason, which stands until a wake succeeds. ECS would start it for
    ever, and never with what was mended since: each wake names the newest task definition, and nothing else does.
    After a rest the next who wants it wakes it again; one task that ends ends that wake.
 3. AWAKE: one task, faced. One that is not healthy any more is waited for again: WAKING, with the night watch in front.
    Not where nothing needs one, as far as whoever looks knows (the janitor does, which ECS's event of every end calls):
    then it falls asleep instead, and a wake whose tasks do not end by themselves is over. Else a task that crashes now
    and then, each time after it was healthy, would run for ever: every start is a wake that succeeded, and no task
    lives long enough to be idle. One that ECS starts again meanwhile finds the fall, and ends it.
 4. FALLING-ASLEEP: the night watch in front. If whoever began it does not end it in time, it ends here: ASLEEP.
 5. ASLEEP: the night watch in front, then no task. Somebody who wakes it at this very moment raises the count again:
    rule 2 holds for as long as anybody waits.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from control_plane.endings import UP
from control_plane.errors import Stale
from control_plane.failures import not_starting
from control_plane.ports import Clock, Ending, Front, FrontState, FrontStore, Stage, StageHands
from gpu_node.protocol import Failure

WAKE_LIMIT_S = 300.0  # a task is healthy within a minute or two; one that never is costs by the minute
ENDINGS = 3  # of tasks in one wake: none of them was unlucky
REST_S = 60.0  # after a wake that was given up: who asks is told why, and nothing is tried
ENDINGS_EVERY_S = 10.0  # the least between two questions for tasks that ended
FALL_LIMIT_S = 180.0  # falling asleep takes half a minute; whoever began it and took longer is gone

MOVES: dict[FrontState, frozenset[FrontState]] = {
    FrontState.ASLEEP: frozenset({FrontState.WAKING}),
    FrontState.WAKING: frozenset({FrontState.AWAKE, FrontState.ASLEEP}),
    FrontState.AWAKE: frozenset({FrontState.FALLING_ASLEEP, FrontState.WAKING}),
    FrontState.FALLING_ASLEEP: frozenset({FrontState.ASLEEP, FrontState.WAKING, FrontState.AWAKE}),
}
"""Every legal move."""


@dataclass(frozen=True)
class Want:
    """So many tasks."""

    tasks: int


@dataclass(frozen=True)
class Face:
    """Requests go to the control plane, or to the night watch."""

    control_plane: bool


@dataclass(frozen=True)
class Move:
    """The state that all agree on becomes this one; ``failure`` is why a wake is given up."""

    target: FrontState
    failure: Failure | None = None


Step = Want | Face | Move


def resting(front: Front, now: float) -> Failure | None:
    """Why nobody can wake it right now, where that is so."""
    rests = front.state is FrontState.ASLEEP and now < front.failed_at + REST_S
    return front.failure if rests else None


def correction(
    front: Front,
    stage: Stage,
    *,
    wanted: bool,
    now: float,
    linger_s: float,
    endings: Sequence[Ending] = (),
    needed: bool = True,
) -> list[Step]:
    """What to do next, in this order; nothing when all agrees. At most one move a look.

    ``linger_s`` seconds after the order to end, a task is not found healthy any more. ``endings`` are those of this
    wake's tasks, as far as somebody asked for them. ``needed`` says whether there is anything for a task to do; it is
    looked at where none is healthy.
    """
    steps = _steps(front, stage, wanted=wanted, now=now, linger_s=linger_s, endings=endings, needed=wanted or needed)
    return list(steps)


def _steps(
    front: Front,
    stage: Stage,
    *,
    wanted: bool,
    now: float,
    linger_s: float,
    endings: Sequence[Ending],
    needed: bool,
) -> Iterator[Step]:
    match front.state:
        case FrontState.ASLEEP if wanted and not resting(front, now):
            yield from _woken(front, stage)  # 1
        case FrontState.FALLING_ASLEEP if wanted:
            yield Move(_taken_back(stage))  # 1
        case FrontState.WAKING | FrontState.AWAKE:
            stays = front.state is FrontState.AWAKE or now >= front.since + linger_s
            healthy = stage.healthy and stays
            failure = None if healthy else _given_up(front, stage, endings, now)
            spent = not (needed or stage.healthy or endings)  # after an ending, why the wake fails is soon known
            yield from _over(front, stage, failure) if failure or spent else _up(front, stage, healthy=healthy)  # 2, 3
        case FrontState.FALLING_ASLEEP:
            yield from _facing(stage, control_plane=False)  # 4
            if now > front.since + FALL_LIMIT_S:
                yield Move(FrontState.ASLEEP)
        case FrontState.ASLEEP:
            yield from _facing(stage, control_plane=False)  # 5
            if stage.desired:
                yield Want(0)
        case _:
            assert_never(front.state)


def _woken(front: Front, stage: Stage) -> Iterator[Step]:
    if front.failure and stage.desired:
        yield Want(0)  # else this wake would name no newer definition
    yield Move(FrontState.WAKING)


def _over(front: Front, stage: Stage, failure: Failure | None) -> Iterator[Step]:
    if front.state is FrontState.WAKING:
        yield Move(FrontState.ASLEEP, failure)
        yield Want(0)
    else:
        yield from _facing(stage, control_plane=False)
        yield Move(FrontState.FALLING_ASLEEP)


def _up(front: Front, stage: Stage, *, healthy: bool) -> Iterator[Step]:
    if stage.desired != 1:
        yield Want(1)
    yield from _facing(stage, control_plane=healthy)
    target = FrontState.AWAKE if healthy else FrontState.WAKING
    if front.state is not target:
        yield Move(target)


def _given_up(front: Front, stage: Stage, endings: Sequence[Ending], now: float) -> Failure | None:
    if front.state is not FrontState.WAKING:
        return None
    enough = len(endings) >= (1 if front.failure else ENDINGS)
    if not enough and not _too_long(front, now):
        return None
    last = endings[0] if endings else Ending(stage.last_word, UP)
    return not_starting(now - front.since, len(endings), why=last.why, fix=last.fix)


def _too_long(front: Front, now: float) -> bool:
    return now > front.since + WAKE_LIMIT_S


def _taken_back(stage: Stage) -> FrontState:
    return FrontState.AWAKE if stage.healthy and stage.desired == 1 else FrontState.WAKING


def _facing(stage: Stage, *, control_plane: bool) -> Iterator[Step]:
    if stage.facing_control_plane is not control_plane:
        yield Face(control_plane)


class Doorkeeper:
    """The effects of ``correction``. Twice is once; a race lost is left to the next look.

    ``told`` hears of every step that took effect, at once; ``saw`` of every look, and when it began. ``needed`` reads
    whether anything needs a task; without it, nobody knows, and so something may.
    """

    def __init__(
        self,
        store: FrontStore,
        hands: StageHands,
        *,
        clock: Clock,
        linger_s: float,
        told: Callable[[Step], None] = lambda _: None,
        saw: Callable[[Stage, float], None] = lambda *_: None,
        needed: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._store = store
        self._hands = hands
        self._clock = clock
        self._linger_s = linger_s
        self._told = told
        self._saw = saw
        self._needed = needed
        self._asked_at = -math.inf  # for tasks that ended

    async def read(self) -> Front:
        """What all agree on, without a look at AWS. Raises Unavailable."""
        return await self._store.read()

    async def join(self, *, every_s: float) -> Front:
        """As ``look`` for somebody who waits, where nobody did for so long: one of those who wait looks for all.

        Raises Unavailable.
        """
        front = await self._store.read()
        now = self._clock()
        if front.state is FrontState.WAKING:
            if now < front.looked_at + every_s:
                return front
            try:
                await self._store.claim(front, at=now)
            except Stale:
                return front
        return await self.look(wanted=True)

    async def look(self, *, wanted: bool) -> Front:
        """One look and its correction; the front as it is then. Raises Unavailable."""
        began = self._clock()
        front = await self._store.read()
        stage = await self._hands.look()
        self._saw(stage, began)
        endings = await self._endings(front, stage)
        needed = wanted or await self._still_needed(front, stage)
        now = self._clock()
        linger_s = self._linger_s
        for step in correction(front, stage, wanted=wanted, now=now, linger_s=linger_s, endings=endings, needed=needed):
            try:
                front = await self._take(step, front)
            except Stale:
                return await self._store.read()
        return front

    async def move(self, front: Front, target: FrontState, failure: Failure | None = None) -> Front:
        """Raises Stale when somebody moved it since; Unavailable."""
        assert target in MOVES[front.state], f"no move from {front.state} to {target}"
        moved = await self._store.move(front, target, at=self._clock(), failure=failure)
        self._told(Move(target, failure))
        return moved

    async def _still_needed(self, front: Front, stage: Stage) -> bool:
        """Read after the front: whoever woke it wished first, and so is seen."""
        up = front.state in (FrontState.WAKING, FrontState.AWAKE)
        return stage.healthy or not up or self._needed is None or await self._needed()

    async def _endings(self, front: Front, stage: Stage) -> Sequence[Ending]:
        """Of this wake's tasks; nothing where it is of no use to ask, or somebody here did a moment ago."""
        now = self._clock()
        if front.state is not FrontState.WAKING or stage.healthy or not stage.desired:
            return ()
        if now < max(self._asked_at, front.since) + ENDINGS_EVERY_S and not _too_long(front, now):
            return ()
        self._asked_at = now
        return await self._hands.endings(front.since)

    async def _take(self, step: Step, front: Front) -> Front:
        """The front as it is afterwards."""
        match step:
            case Want(tasks):
                await self._hands.want(tasks)
            case Face(control_plane):
                await self._hands.face(control_plane=control_plane)
            case Move(target, failure):
                return await self.move(front, target, failure)
            case _:
                assert_never(step)
        self._told(step)
        return front
