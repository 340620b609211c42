"""The promises of FrontStore: one item, moved by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.aws_session import aws_session
from control_plane.dynamo import DynamoFront, open_dynamo
from control_plane.errors import Stale, Unavailable
from control_plane.ports import Front, FrontState, FrontStore
from gpu_node.protocol import Failure
from rehearsal.faults import Fault
from tests.contract.under_test import Desk
from tests.night.stage import MemoryFront

ATTEMPTS = 3  # of the SDK


@pytest.fixture
async def dynamo_front(tables: None, namespace: str) -> AsyncIterator[FrontStore]:
    async with open_dynamo(aws_session()) as client:
        yield DynamoFront(client, namespace)


@pytest.fixture
def memory_front() -> FrontStore:
    return MemoryFront()


@pytest.fixture(params=["memory", "dynamo"])
def front(request: pytest.FixtureRequest) -> FrontStore:
    found: FrontStore = request.getfixturevalue(f"{request.param}_front")
    return found


async def test_it_begins_asleep(front: FrontStore) -> None:
    assert await front.read() == Front(FrontState.ASLEEP, 0, 0.0)


async def test_a_move_is_what_everybody_reads(front: FrontStore) -> None:
    moved = await front.move(await front.read(), FrontState.WAKING, at=100.0)
    assert moved == Front(FrontState.WAKING, 1, 100.0)
    assert await front.read() == moved
    again = await front.move(moved, FrontState.AWAKE, at=140.5)
    assert await front.read() == again == Front(FrontState.AWAKE, 2, 140.5)


async def test_of_many_that_move_at_once_one_does(front: FrontStore) -> None:
    seen = await front.read()
    found = await asyncio.gather(
        *(front.move(seen, FrontState.WAKING, at=float(n)) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(moved, Front) for moved in found) == 1
    assert sum(isinstance(error, Stale) for error in found) == 9


async def test_what_was_read_before_another_moved_it_is_stale(front: FrontStore) -> None:
    seen = await front.move(await front.read(), FrontState.WAKING, at=1.0)
    await front.move(seen, FrontState.AWAKE, at=2.0)
    with pytest.raises(Stale):
        await front.move(seen, FrontState.AWAKE, at=3.0)


async def test_why_a_wake_was_given_up_stands_until_one_succeeds(front: FrontStore) -> None:
    waking = await front.move(await front.read(), FrontState.WAKING, at=100.0)
    failure = Failure("control_plane_not_starting", "No such image.", "Push it.")
    given_up = await front.move(waking, FrontState.ASLEEP, at=400.0, failure=failure)
    assert await front.read() == given_up == Front(FrontState.ASLEEP, 2, 400.0, failure=failure, failed_at=400.0)
    again = await front.move(given_up, FrontState.WAKING, at=500.0)
    assert (again.failure, again.failed_at) == (failure, 400.0)
    awake = await front.move(again, FrontState.AWAKE, at=540.0)
    assert await front.read() == awake == Front(FrontState.AWAKE, 4, 540.0)


async def test_of_many_that_would_look_one_does_and_no_move_is_in_its_way(front: FrontStore) -> None:
    seen = await front.read()
    found = await asyncio.gather(*(front.claim(seen, at=50.0) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(error, Stale) for error in found) == 9
    claimed = await front.read()
    assert claimed == Front(FrontState.ASLEEP, 0, 0.0, looked_at=50.0)
    await front.claim(claimed, at=52.0)
    with pytest.raises(Stale):
        await front.claim(claimed, at=53.0)
    assert (await front.move(claimed, FrontState.WAKING, at=60.0)).looked_at == 52.0


async def test_a_table_that_does_not_answer_is_told(dynamo_front: FrontStore, desk: Desk) -> None:
    desk.faults.add(Fault("fail", "dynamodb:GetItem", times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await dynamo_front.read()
