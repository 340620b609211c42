"""The promises of LimitStore."""

from __future__ import annotations

import asyncio

from control_plane.books import Limit
from tests.contract.under_test import Stores

ANN = Limit("user:ann@example.com", 60_000_000, 72_000_000)


async def test_a_limit_is_set_changed_and_taken_back(stores: Stores) -> None:
    await stores.limits.set(Limit("deployment", 1, 2))
    await stores.limits.set(ANN)
    await stores.limits.set(Limit("deployment", 100_000_000, 120_000_000))
    assert await stores.limits.list() == [Limit("deployment", 100_000_000, 120_000_000), ANN]
    for _ in range(2):
        await stores.limits.clear("deployment")
    assert await stores.limits.list() == [ANN]


async def test_one_of_many_crosses_first(stores: Stores) -> None:
    first = await asyncio.gather(*(stores.limits.crossed("deployment", "2026-11", "warn") for _ in range(8)))
    assert sorted(first) == [False] * 7 + [True]
    assert await stores.limits.crossed("deployment", "2026-12", "warn")
    assert await stores.limits.crossed("deployment", "2026-11", "capped")
    assert await stores.limits.crossed("user:ann@example.com", "2026-11", "warn")
    assert await stores.limits.list() == []
