"""The promises of HoldStore: so many at a time, whoever takes them and whatever becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.aws_session import aws_session
from control_plane.dynamo import DynamoHolds, open_dynamo
from control_plane.errors import Unavailable
from control_plane.holds import HoldStore, Slot
from rehearsal.faults import Fault
from tests.contract.under_test import Desk
from tests.night.stage import MemoryHolds

ATTEMPTS = 3  # of the SDK
NOW = 1_795_000_000.25
UPDATE = "dynamodb:UpdateItem"


@pytest.fixture
async def dynamo_holds(tables: None, namespace: str) -> AsyncIterator[HoldStore]:
    async with open_dynamo(aws_session()) as client:
        yield DynamoHolds(client, namespace)


@pytest.fixture
def memory_holds() -> HoldStore:
    return MemoryHolds()


@pytest.fixture(params=["memory", "dynamo"])
def holds(request: pytest.FixtureRequest) -> HoldStore:
    found: HoldStore = request.getfixturevalue(f"{request.param}_holds")
    return found


def slot(number: int, *, until: float = NOW + 60) -> Slot:
    return Slot(f"req_{number}", until)


async def taken(holds: HoldStore, numbers: range, *, most: int, at: float = NOW) -> list[bool]:
    return [await holds.take(slot(number), most=most, at=at) for number in numbers]


async def test_so_many_are_taken_and_no_more_until_one_is_given_back(holds: HoldStore) -> None:
    assert await taken(holds, range(4), most=3) == [True, True, True, False]
    await holds.give_back(slot(1))
    assert await taken(holds, range(4, 6), most=3) == [True, False]
    for number in (0, 2, 4):
        await holds.give_back(slot(number))
    assert await taken(holds, range(6, 10), most=3) == [True, True, True, False]


async def test_of_many_that_come_at_once_so_many_get_one(holds: HoldStore) -> None:
    asked = await asyncio.gather(*(holds.take(slot(number), most=4, at=NOW) for number in range(12)))
    assert sum(asked) == 4


async def test_what_ran_out_is_free_for_as_many_as_it_was_and_for_no_more(holds: HoldStore) -> None:
    for number in range(3):
        assert await holds.take(slot(number, until=NOW + 10 * number), most=3, at=NOW - 1)
    assert not await holds.take(slot(3), most=3, at=NOW - 0.5)
    asked = await asyncio.gather(*(holds.take(slot(number), most=3, at=NOW + 15) for number in range(4, 10)))
    assert 1 <= sum(asked) <= 2
    more = [await holds.take(slot(number), most=3, at=NOW + 15) for number in range(10, 13)]
    assert sum(asked) + sum(more) == 2


async def test_who_gives_back_late_takes_nothing_from_whoever_came_after(holds: HoldStore) -> None:
    dead = slot(0, until=NOW)
    assert await holds.take(dead, most=1, at=NOW - 60)
    assert await holds.take(slot(1), most=1, at=NOW)
    await holds.give_back(dead)
    assert not await holds.take(slot(2), most=1, at=NOW)


async def test_twice_is_once(holds: HoldStore) -> None:
    assert await holds.take(slot(0), most=2, at=NOW)
    assert await holds.take(slot(0), most=2, at=NOW)
    assert await taken(holds, range(1, 3), most=2) == [True, False]
    assert await holds.take(slot(1), most=2, at=NOW)  # also when it took the last one
    await holds.give_back(slot(0))
    await holds.give_back(slot(0))
    assert await taken(holds, range(3, 5), most=2) == [True, False]


async def test_nothing_was_ever_taken_and_is_given_back_all_the_same(holds: HoldStore) -> None:
    await holds.give_back(slot(0))
    assert await taken(holds, range(2), most=1) == [True, False]


async def test_how_many_there_may_be_is_what_the_newest_says(holds: HoldStore) -> None:
    assert await taken(holds, range(3), most=2) == [True, True, False]
    assert await taken(holds, range(3, 5), most=3) == [True, False]
    await holds.give_back(slot(0))
    assert not await holds.take(slot(5), most=2, at=NOW)


async def test_each_is_one_write(dynamo_holds: HoldStore, desk: Desk) -> None:
    def writes() -> int:
        return desk.account.calls().get(UPDATE, 0)

    before = writes()
    assert await taken(dynamo_holds, range(3), most=3) == [True] * 3
    assert writes() == before + 3
    assert not await dynamo_holds.take(slot(3), most=3, at=NOW)
    assert writes() == before + 4
    await dynamo_holds.give_back(slot(0))
    assert writes() == before + 5


async def test_a_reply_that_is_lost_counts_nothing_twice(dynamo_holds: HoldStore, desk: Desk) -> None:
    """The SDK sends it again."""
    desk.faults.add(Fault("lose_reply", UPDATE, times=1))
    assert await dynamo_holds.take(slot(0), most=2, at=NOW)
    desk.faults.add(Fault("lose_reply", UPDATE, times=1))
    assert await dynamo_holds.take(slot(1), most=2, at=NOW)
    desk.faults.add(Fault("lose_reply", UPDATE, times=1))
    await dynamo_holds.give_back(slot(0))
    assert await taken(dynamo_holds, range(2, 4), most=2) == [True, False]


async def test_a_table_that_does_not_answer_is_told(dynamo_holds: HoldStore, desk: Desk) -> None:
    desk.faults.add(Fault("throttle", UPDATE, times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await dynamo_holds.take(slot(0), most=1, at=NOW)
    desk.faults.add(Fault("throttle", UPDATE, times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await dynamo_holds.give_back(slot(0))
