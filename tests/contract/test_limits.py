"""The promises of LimitStore."""

from __future__ import annotations

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
