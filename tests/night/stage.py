"""The front in memory: the item that all agree on, who is held, the service, and the listener."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from control_plane.errors import Stale
from control_plane.front import MOVES
from control_plane.holds import Slot
from control_plane.ports import Ending, Front, FrontState, Stage
from gpu_node.protocol import Failure
from tests.memory import FakeClock, Fallible


@dataclass
class MemoryFront(Fallible):
    front: Front = field(default_factory=Front)
    history: list[FrontState] = field(default_factory=list)

    async def read(self) -> Front:
        return self.front

    async def move(self, front: Front, target: FrontState, *, at: float, failure: Failure | None = None) -> Front:
        assert target in MOVES[front.state]
        if front.epoch != self.front.epoch:
            raise Stale("somebody moved the front")
        self.front = replace(self.front, state=target, epoch=front.epoch + 1, since=at)
        if failure:
            self.front = replace(self.front, failure=failure, failed_at=at)
        elif target is FrontState.AWAKE:
            self.front = replace(self.front, failure=None, failed_at=0.0)
        self.history.append(target)
        return self.front

    async def claim(self, front: Front, *, at: float) -> None:
        if front.looked_at != self.front.looked_at:
            raise Stale("somebody looks already")
        self.front = replace(self.front, looked_at=at)


@dataclass
class MemoryHolds(Fallible):
    slots: dict[str, Slot] = field(default_factory=dict)
    writes: int = 0
    peak: int = 0  # of so many at a time

    async def take(self, slot: Slot, *, most: int, at: float) -> bool:
        self.writes += 1
        taken = {holder: other for holder, other in self.slots.items() if other.until > at or holder == slot.holder}
        if len(taken) < most or slot.holder in taken:
            self.slots = taken | {slot.holder: slot}
            self.peak = max(self.peak, len(self.slots))
        return slot.holder in self.slots

    async def give_back(self, slot: Slot) -> None:
        self.writes += 1
        self.slots.pop(slot.holder, None)


@dataclass
class MemoryStage(Fallible):
    """A task is healthy so long after it was wanted. ``dies_s``: each one ends so long after its start, and another
    begins, until somebody names a corrected definition."""

    clock: FakeClock = field(default_factory=FakeClock)
    start_s: float = 40.0
    desired: int = 0
    facing: bool = False
    never: bool = False  # the task never becomes healthy
    dies_s: float = 0.0
    corrected: bool = False  # the newest definition starts
    last_word: str = ""
    looks: int = 0
    asked: int = 0  # for endings
    draining: frozenset[str] = frozenset()
    standing: frozenset[str] = frozenset()
    turns: list[bool] = field(default_factory=list)
    _wanted_at: float = 0.0

    @property
    def healthy(self) -> bool:
        up = not self.never and not self.dies_s and self.clock() >= self._wanted_at + self.start_s
        return bool(self.desired) and up

    async def endings(self, since: float) -> Sequence[Ending]:
        self.asked += 1
        ended = int((self.clock() - self._wanted_at) / self.dies_s) if self.dies_s and self.desired else 0
        return [Ending("CannotPullContainerError: no such image.", "Push it.")] * ended

    async def look(self) -> Stage:
        self.looks += 1
        return Stage(self.desired, self.healthy, self.facing, self.last_word, self.draining, self.standing)

    async def want(self, tasks: int) -> None:
        if tasks and self.corrected:
            self.never, self.dies_s = False, 0.0
        if tasks and not self.desired:
            self._wanted_at = self.clock()
        self.desired = tasks

    async def face(self, *, control_plane: bool) -> None:
        assert self.healthy or not control_plane, "turned to a task that is not healthy"
        self.facing = control_plane
        self.turns.append(control_plane)
