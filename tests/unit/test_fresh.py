"""A value that grows old: who waits for a read, who does not, and what a change from here does."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.errors import Unavailable
from control_plane.fresh import Fresh
from tests.memory import FakeClock


class Source:
    """Counts up; answers when it may, and fails when told."""

    def __init__(self) -> None:
        self.reads = 0
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        await self.open.wait()
        if self.broken:
            raise Unavailable("no")
        return number


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def fresh(source: Source, clock: FakeClock) -> Fresh[int]:
    return Fresh(source.read, clock=clock, limit_s=60.0, renew_s=20.0)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_who_ask_at_once_are_one_read(fresh: Fresh[int], source: Source) -> None:
    assert await asyncio.gather(*(fresh.get() for _ in range(9))) == [1] * 9
    assert await fresh.get() == 1
    assert source.reads == 1


async def test_it_is_renewed_while_the_old_one_is_still_handed_out(
    fresh: Fresh[int], source: Source, clock: FakeClock
) -> None:
    await fresh.get()
    clock.step(20)
    source.open.clear()
    assert await fresh.get() == 1  # nobody waits
    await settle()
    source.open.set()
    await settle()
    assert await fresh.get() == 2


async def test_beyond_the_limit_the_old_one_is_not_handed_out(
    fresh: Fresh[int], source: Source, clock: FakeClock
) -> None:
    await fresh.get()
    source.broken = True
    clock.step(59)
    assert await fresh.get() == 1
    await settle()
    clock.step(1)
    with pytest.raises(Unavailable):
        await fresh.get()
    source.broken = False
    assert await fresh.get() > 1


async def test_somebody_may_want_it_younger(fresh: Fresh[int], clock: FakeClock) -> None:
    await fresh.get()
    clock.step(5)
    assert await fresh.get(max_age_s=6) == 1
    assert await fresh.get(max_age_s=5) == 2


async def test_a_read_from_before_a_change_is_not_kept(fresh: Fresh[int], source: Source) -> None:
    source.open.clear()
    before = asyncio.create_task(fresh.get())
    await settle()
    fresh.forget()
    source.open.set()
    await before
    assert await fresh.get() == 2


async def test_a_read_that_never_ends_is_given_up(fresh: Fresh[int], source: Source, clock: FakeClock) -> None:
    source.open.clear()
    stuck = asyncio.create_task(fresh.get())
    await settle()
    source.open = asyncio.Event()
    source.open.set()
    clock.step(60)
    assert await fresh.get() == 2
    stuck.cancel()


async def test_who_came_first_may_leave_first(fresh: Fresh[int], source: Source) -> None:
    source.open.clear()
    first, second = asyncio.create_task(fresh.get()), asyncio.create_task(fresh.get())
    await settle()
    first.cancel()
    await settle()
    source.open.set()
    assert await second == 1
