"""The control plane's own sleep: only when idle, taken back when needed, never on a request that comes late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

from control_plane.errors import Unavailable
from control_plane.front import Doorkeeper
from control_plane.ports import Front, FrontState
from control_plane.slumber import LAST_LIMIT_S, Slumber
from tests.memory import FakeClock
from tests.night.stage import MemoryFront, MemoryStage
from tests.stories.virtual import story


@dataclass
class Bench:
    """An awake control plane, idle unless told otherwise."""

    clock: FakeClock = field(default_factory=FakeClock)
    busy: bool = False
    wished: bool = False

    def __post_init__(self) -> None:
        self.front = MemoryFront(Front(FrontState.AWAKE, 1, self.clock()))
        self.stage = MemoryStage(self.clock, start_s=0, desired=1, facing=True)
        keeper = Doorkeeper(self.front, self.stage, clock=self.clock, linger_s=10.0)
        self.slumber = Slumber(
            keeper, lambda: self.busy, self.stands, clock=self.clock, idle_s=600, propagation_s=30, tick_s=5
        )

    async def stands(self) -> bool:
        return self.wished

    async def live(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            self.clock.step(5)
            await self.slumber.turn()

    @property
    def state(self) -> FrontState:
        return self.front.front.state


@story
async def test_an_idle_control_plane_hands_over_waits_for_what_comes_late_and_ends() -> None:
    bench = Bench()
    await bench.live(595)
    assert (bench.state, bench.stage.facing) == (FrontState.AWAKE, True)
    await bench.live(10)
    assert (bench.state, bench.stage.facing, bench.stage.desired) == (FrontState.FALLING_ASLEEP, False, 1)
    await bench.live(20)
    assert bench.stage.desired == 1
    await bench.live(15)
    assert (bench.state, bench.stage.facing, bench.stage.desired) == (FrontState.ASLEEP, False, 0)


@story
async def test_a_busy_one_never_sleeps_and_the_clock_begins_at_the_end() -> None:
    bench = Bench(busy=True)
    await bench.live(3600)
    assert bench.front.history == []
    bench.busy = False
    await bench.live(590)
    assert bench.front.history == []
    await bench.live(15)
    assert bench.state is FrontState.FALLING_ASLEEP


@story
async def test_a_request_that_comes_late_takes_the_fall_back() -> None:
    bench = Bench()
    await bench.live(610)
    assert bench.state is FrontState.FALLING_ASLEEP
    bench.busy = True
    await bench.live(15)
    assert (bench.state, bench.stage.facing, bench.stage.desired) == (FrontState.AWAKE, True, 1)


@story
async def test_a_wish_that_came_after_the_last_look_at_the_tables_takes_the_fall_back() -> None:
    bench = Bench()
    await bench.live(625)
    assert bench.state is FrontState.FALLING_ASLEEP
    bench.wished = True  # nothing of it is known here yet
    await bench.live(5)
    await bench.live(5)
    assert FrontState.ASLEEP not in bench.front.history
    assert (bench.state, bench.stage.facing, bench.stage.desired) == (FrontState.AWAKE, True, 1)


@story
async def test_a_wish_that_came_with_the_end_wakes_another_task() -> None:
    bench = Bench()
    await bench.live(650)
    assert (bench.state, bench.stage.desired) == (FrontState.ASLEEP, 0)
    bench.wished = True
    await bench.slumber.last_look()
    assert (bench.state, bench.stage.desired) == (FrontState.WAKING, 1)


@story
async def test_nothing_ends_while_the_tables_cannot_be_read() -> None:
    bench = Bench()
    await bench.live(625)

    async def unread() -> bool:
        raise Unavailable("throttled")

    bench.slumber._wished = unread
    with pytest.raises(Unavailable):
        await bench.live(10)
    assert (bench.state, bench.stage.desired) == (FrontState.FALLING_ASLEEP, 1)


@story
async def test_a_night_watch_that_wakes_it_while_it_falls_wins() -> None:
    bench = Bench()
    await bench.live(610)
    await Doorkeeper(bench.front, bench.stage, clock=bench.clock, linger_s=10.0).look(wanted=True)
    await bench.live(60)
    assert (bench.state, bench.stage.facing, bench.stage.desired) == (FrontState.AWAKE, True, 1)
    assert bench.stage.turns == [False, True]


@story
async def test_the_same_task_may_be_woken_and_sleep_again() -> None:
    bench = Bench()
    await bench.live(610)
    await Doorkeeper(bench.front, bench.stage, clock=bench.clock, linger_s=10.0).look(wanted=True)
    await bench.live(1500)
    assert (bench.state, bench.stage.desired) == (FrontState.ASLEEP, 0)


@story
async def test_what_arrives_the_old_way_is_waited_for_from_the_listeners_turn_on() -> None:
    """The turn failed at first: the fall had begun, but requests still came."""
    bench = Bench()
    await bench.live(595)
    bench.stage.broken.fail("face")
    with pytest.raises(Unavailable):
        await bench.live(5)
    assert (bench.state, bench.stage.facing) == (FrontState.FALLING_ASLEEP, True)
    bench.clock.step(25)
    await bench.live(30)
    assert (bench.state, bench.stage.facing) == (FrontState.FALLING_ASLEEP, False)
    await bench.live(10)
    assert bench.state is FrontState.ASLEEP


@story
async def test_a_task_that_is_told_to_stop_looks_at_once_and_leaves_the_night_watch_in_front() -> None:
    bench = Bench(busy=True)
    bench.stage.never = True  # its target is taken out before it is told
    bench.slumber.leave()
    await asyncio.wait_for(bench.slumber.turn(), 1.0)
    assert (bench.state, bench.stage.facing) == (FrontState.WAKING, False)


@story
async def test_the_last_look_of_a_task_turns_the_listener_and_does_not_fail() -> None:
    bench = Bench()
    bench.stage.never = True
    bench.stage.broken.fail("look", times=4)
    await bench.slumber.last_look()
    assert bench.stage.facing
    await bench.slumber.last_look()
    assert (bench.state, bench.stage.facing, bench.stage.desired) == (FrontState.WAKING, False, 1)


@story
async def test_the_last_look_of_a_task_ends_before_ecs_ends_it() -> None:
    bench = Bench()

    async def never() -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    bench.stage.look = never  # type: ignore[method-assign]
    await asyncio.wait_for(bench.slumber.last_look(), LAST_LIMIT_S + 1.0)
