"""A whole deployment in memory: asleep, unless a test sets it otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from control_plane.adapters import Adapters, FrontAdapters
from control_plane.effects import Stores
from control_plane.gateway import Gateway
from control_plane.night import night_app
from control_plane.ports import Group
from control_plane.settings import Settings
from tests.memory import (
    FakeClock,
    MemoryEvents,
    MemoryFence,
    MemoryKeys,
    MemoryLaunches,
    MemoryModels,
    MemoryNodes,
    MemoryProbe,
    MemoryWishes,
)
from tests.memory_books import MemoryLimits, MemoryUsage
from tests.memory_cloud import MemoryCloud
from tests.memory_notices import Notices
from tests.memory_people import MemoryPeople
from tests.night.stage import MemoryFront, MemoryHolds, MemoryStage

MODEL = "org/model"
GROUP = Group("g", MODEL, "on-demand", ("a", "b"), max_size=9, desired=0)


@dataclass
class Deployment:
    """Everything asleep, in memory; time passes only where the night watch waits."""

    clock: FakeClock = field(default_factory=FakeClock)
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.nodes, self.wishes, self.launches = MemoryNodes(), MemoryWishes(), MemoryLaunches()
        self.models, self.keys, self.cloud = MemoryModels(), MemoryKeys(), MemoryCloud(self.clock)
        self.fence, self.events = MemoryFence(self.clock), MemoryEvents()
        self.people = MemoryPeople()
        self.usage, self.limits, self.notices = MemoryUsage(), MemoryLimits(), Notices()
        self.front, self.stage, self.holds = MemoryFront(), MemoryStage(self.clock), MemoryHolds()
        self.cloud.add_group(GROUP)

    @property
    def outside(self) -> Adapters:
        stores = Stores(self.nodes, self.wishes, self.launches, self.models, self.fence)
        return Adapters(
            stores,
            self.keys,
            self.usage,
            self.cloud,
            MemoryProbe(),
            self.fronts,
            self.events,
            people=self.people.adapters,
            limits=self.limits,
        )

    @property
    def fronts(self) -> FrontAdapters:
        return FrontAdapters(self.front, self.stage, self.holds)

    def app(self) -> Gateway:
        """As a new function's process has it."""
        return night_app(self.settings, self.outside, self.fronts, clock=self.clock, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.clock.step(seconds)
