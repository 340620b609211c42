"""Who answers: the night watch or the control plane. Level-triggered: whoever looks, mends.

``correction`` decides from one look (pure); ``Doorkeeper`` looks, decides and acts. The night watch runs it while it
holds a request, the janitor on its schedule, and the control plane in its loop; none of them needs another of them.

 1. Wanted, and ASLEEP: WAKING. FALLING-ASLEEP is taken back, to AWAKE while the task still serves, else to WAKING.
 2. WAKING: one task; once it is healthy, the listener faces it, and then the state is AWAKE. Nothing ever faces a
    task that is not healthy, or that was healthy when it was woken: that one may just be told to end (5), and only
    one that outlives it for a while is sure to stay. One that does not get healthy for long, and that nobody wants
    any more, is given up: ASLEEP. ECS would start it again and again.
 3. AWAKE: one task, faced. One that is not healthy any more is waited for again: WAKING, with the night watch in front.
 4. FALLING-ASLEEP: the night watch in front. If whoever began it does not end it in time, it ends here: ASLEEP.
 5. ASLEEP: the night watch in front, then no task. Somebody who wakes it at this very moment raises the count again:
    rule 2 holds for as long as anybody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

from control_plane.errors import Stale
from control_plane.ports import Clock, Front, FrontState, FrontStore, Stage, StageHands

WAKE_LIMIT_S = 900.0  # a task is healthy within a minute or two; one that never is costs by the minute
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
    """The state that all agree on becomes this one."""

    target: FrontState


Step = Want | Face | Move


def correction(front: Front, stage: Stage, *, wanted: bool, now: float, linger_s: float) -> list[Step]:
    """What to do next, in this order; nothing when all agrees. At most one move a look.

    ``linger_s`` seconds after the order to end, a task is not found healthy any more.
    """
    return list(_steps(front, stage, wanted=wanted, now=now, linger_s=linger_s))


def _steps(front: Front, stage: Stage, *, wanted: bool, now: float, linger_s: float) -> Iterator[Step]:
    match front.state:
        case FrontState.ASLEEP if wanted:
            yield Move(FrontState.WAKING)  # 1
        case FrontState.FALLING_ASLEEP if wanted:
            yield Move(_taken_back(stage))  # 1
        case FrontState.WAKING | FrontState.AWAKE:
            stays = front.state is FrontState.AWAKE or now >= front.since + linger_s
            healthy = stage.healthy and stays
            given_up = not wanted and not healthy and _hopeless(front, now)
            yield from [Move(FrontState.ASLEEP)] if given_up else _up(front, stage, healthy=healthy)  # 2, 3
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


def _up(front: Front, stage: Stage, *, healthy: bool) -> Iterator[Step]:
    if stage.desired != 1:
        yield Want(1)
    yield from _facing(stage, control_plane=healthy)
    target = FrontState.AWAKE if healthy else FrontState.WAKING
    if front.state is not target:
        yield Move(target)


def _hopeless(front: Front, now: float) -> bool:
    return front.state is FrontState.WAKING and now > front.since + WAKE_LIMIT_S


def _taken_back(stage: Stage) -> FrontState:
    return FrontState.AWAKE if stage.healthy and stage.desired == 1 else FrontState.WAKING


def _facing(stage: Stage, *, control_plane: bool) -> Iterator[Step]:
    if stage.facing_control_plane is not control_plane:
        yield Face(control_plane)


class Doorkeeper:
    """The effects of ``correction``. Twice is once; a race lost is left to the next look.

    ``told`` hears of every step that took effect, at once.
    """

    def __init__(
        self,
        store: FrontStore,
        hands: StageHands,
        *,
        clock: Clock,
        linger_s: float,
        told: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._hands = hands
        self._clock = clock
        self._linger_s = linger_s
        self._told = told

    async def look(self, *, wanted: bool) -> Front:
        """One look and its correction; the front as it is then. Raises Unavailable."""
        front = await self._store.read()
        stage = await self._hands.look()
        for step in correction(front, stage, wanted=wanted, now=self._clock(), linger_s=self._linger_s):
            try:
                front = await self._take(step, front)
            except Stale:
                return await self._store.read()
        return front

    async def move(self, front: Front, target: FrontState) -> Front:
        """Raises Stale when somebody moved it since; Unavailable."""
        assert target in MOVES[front.state], f"no move from {front.state} to {target}"
        moved = await self._store.move(front, target, at=self._clock())
        self._told(Move(target))
        return moved

    async def _take(self, step: Step, front: Front) -> Front:
        """The front as it is afterwards."""
        match step:
            case Want(tasks):
                await self._hands.want(tasks)
            case Face(control_plane):
                await self._hands.face(control_plane=control_plane)
            case Move(target):
                return await self.move(front, target)
            case _:
                assert_never(step)
        self._told(step)
        return front
