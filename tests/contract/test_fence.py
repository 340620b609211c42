"""The promises of Fence: one reconciler at a time."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.errors import Stale
from tests.contract.under_test import Desk, Stores
from tests.memory import FakeClock


async def test_every_epoch_is_higher_than_those_before(stores: Stores) -> None:
    epochs = await asyncio.gather(*(stores.fence.take(f"task-{n}") for n in range(20)))
    assert sorted(epochs) == list(range(1, 21))


async def test_the_newest_epoch_holds_and_older_ones_do_not(stores: Stores) -> None:
    old = await stores.fence.take("task-1")
    await stores.fence.hold(old)
    new = await stores.fence.take("janitor")
    with pytest.raises(Stale):
        await stores.fence.hold(old)
    await stores.fence.hold(new)


async def test_nobody_holds_what_nobody_took(stores: Stores) -> None:
    with pytest.raises(Stale):
        await stores.fence.hold(1)


async def test_holding_leaves_a_sign_of_life(
    dynamo_stores: Stores, desk: Desk, namespace: str, clock: FakeClock
) -> None:
    epoch = await dynamo_stores.fence.take("task-1")
    clock.step(5)
    await dynamo_stores.fence.hold(epoch)
    row = desk.account.row(f"{namespace}-control", {"item": {"S": "reconciler"}})
    assert row == {"item": "reconciler", "epoch": 1, "holder": "task-1", "seen_at": clock.now}
