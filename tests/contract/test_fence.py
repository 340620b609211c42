"""The promises of Fence: one reconciler at a time."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.errors import Stale
from control_plane.ports import Term
from tests.contract.under_test import Desk, Stores
from tests.memory import FakeClock, MemoryFence


async def test_every_epoch_is_higher_than_those_before(stores: Stores) -> None:
    terms = await asyncio.gather(*(stores.fence.take(f"task-{n}") for n in range(20)))
    assert sorted(term.epoch for term in terms) == list(range(1, 21))


async def test_the_newest_epoch_holds_and_older_ones_do_not(stores: Stores) -> None:
    old = await stores.fence.take("task-1")
    await stores.fence.hold(old)
    new = await stores.fence.take("janitor")
    with pytest.raises(Stale):
        await stores.fence.hold(old)
    await stores.fence.hold(new)


async def test_nobody_holds_what_nobody_took(stores: Stores) -> None:
    with pytest.raises(Stale):
        await stores.fence.hold(Term(1, 0.0))


async def test_holding_leaves_a_sign_of_life(
    dynamo_stores: Stores, desk: Desk, namespace: str, clock: FakeClock
) -> None:
    epoch = await dynamo_stores.fence.take("task-1")
    clock.step(5)
    await dynamo_stores.fence.hold(epoch)
    row = desk.account.row(f"{namespace}-control", {"item": {"S": "reconciler"}})
    assert row == {"item": "reconciler", "epoch": 1, "holder": "task-1", "seen_at": clock.now}


async def test_a_reconciler_that_lives_is_not_taken_over_from(stores: Stores, clock: FakeClock) -> None:
    await stores.fence.take("task-1")
    with pytest.raises(Stale):
        await stores.fence.take_over("janitor", silent_s=60)


async def test_one_that_let_go_is_taken_over_from_at_once(stores: Stores) -> None:
    term = await stores.fence.take("task-1")
    await stores.fence.release(term)
    assert await stores.fence.take_over("janitor", silent_s=60) == Term(term.epoch + 1, 0.0)
    with pytest.raises(Stale):
        await stores.fence.release(term)


async def test_who_did_not_let_go_is_remembered_by_all_who_come_after(stores: Stores, clock: FakeClock) -> None:
    """Its task may still serve, whoever let go in between."""
    await stores.fence.take("task-1")
    ousted_at = step(stores, clock, 61)
    second = await stores.fence.take_over("janitor", silent_s=60)
    await stores.fence.release(second)
    step(stores, clock, 10)
    assert [second.ousted_at, (await stores.fence.take("task-2")).ousted_at] == [ousted_at, ousted_at]
    assert (await stores.fence.take("task-3")).ousted_at == ousted_at + 10


async def test_where_there_was_never_one_anybody_takes_over_but_only_one(stores: Stores) -> None:
    taking = (stores.fence.take_over(f"night-{n}", silent_s=60) for n in range(10))
    found = await asyncio.gather(*taking, return_exceptions=True)
    assert [term for term in found if isinstance(term, Term)] == [Term(1, 0.0)]
    assert sum(isinstance(error, Stale) for error in found) == 9


async def test_silence_long_enough_lets_another_take_over(stores: Stores, clock: FakeClock) -> None:
    term = await stores.fence.take("task-1")
    step(stores, clock, 61)
    assert (await stores.fence.take_over("janitor", silent_s=60)).epoch == term.epoch + 1


def step(stores: Stores, clock: FakeClock, seconds: float) -> float:
    """The clock of either store; answers its time."""
    clock.step(seconds)
    if isinstance(stores.fence, MemoryFence) and isinstance(stores.fence.clock, FakeClock):
        stores.fence.clock.step(seconds)
        return stores.fence.clock()
    return clock()
