"""The front in memory: the item that all agree on, the service, and the listener."""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.errors import Stale
from control_plane.front import MOVES
from control_plane.ports import Front, FrontState, Stage
from tests.memory import FakeClock, Fallible


@dataclass
class MemoryFront(Fallible):
    front: Front = field(default_factory=Front)
    history: list[FrontState] = field(default_factory=list)

    async def read(self) -> Front:
        return self.front

    async def move(self, front: Front, target: FrontState, *, at: float) -> Front:
        assert target in MOVES[front.state]
        if front.epoch != self.front.epoch:
            raise Stale("somebody moved the front")
        self.front = Front(target, front.epoch + 1, at)
        self.history.append(target)
        return self.front


@dataclass
class MemoryStage(Fallible):
    """A task is healthy so long after it was wanted."""

    clock: FakeClock = field(default_factory=FakeClock)
    start_s: float = 40.0
    desired: int = 0
    facing: bool = False
    never: bool = False  # the task never becomes healthy
    turns: list[bool] = field(default_factory=list)
    _wanted_at: float = 0.0

    @property
    def healthy(self) -> bool:
        return bool(self.desired) and not self.never and self.clock() >= self._wanted_at + self.start_s

    async def look(self) -> Stage:
        return Stage(self.desired, self.healthy, self.facing)

    async def want(self, tasks: int) -> None:
        if tasks and not self.desired:
            self._wanted_at = self.clock()
        self.desired = tasks

    async def face(self, *, control_plane: bool) -> None:
        assert self.healthy or not control_plane, "turned to a task that is not healthy"
        self.facing = control_plane
        self.turns.append(control_plane)
