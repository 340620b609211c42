"""The promises of UsageStore: every token counts, and counts once."""

from __future__ import annotations

import asyncio

from control_plane.ports import Tally
from tests.contract.under_test import Stores

ANN = "ann@example.com"
TALLY = Tally(ANN, "2026-11-23", "org/small", requests=1, prompt_tokens=10, cached_tokens=4, completion_tokens=7)


async def test_sums_of_one_day_add_up(stores: Stores) -> None:
    await stores.usage.add([TALLY], writer="a", number=1)
    await stores.usage.add([TALLY], writer="a", number=2)
    assert await stores.usage.list(ANN, "2026-11") == [Tally(ANN, "2026-11-23", "org/small", 2, 20, 8, 14)]


async def test_a_replay_adds_nothing(stores: Stores) -> None:
    for _ in range(3):
        await stores.usage.add([TALLY], writer="a", number=5)
    await stores.usage.add([TALLY], writer="a", number=4)
    assert await stores.usage.list(ANN, "2026-11") == [TALLY]


async def test_two_writers_with_the_same_number_both_count(stores: Stores) -> None:
    await stores.usage.add([TALLY], writer="task-1", number=1)
    await stores.usage.add([TALLY], writer="task-2", number=1)
    (sum_,) = await stores.usage.list(ANN, "2026-11")
    assert sum_.requests == 2


async def test_two_tallies_for_one_row_in_one_call_both_count(stores: Stores) -> None:
    await stores.usage.add([TALLY, TALLY], writer="a", number=1)
    (sum_,) = await stores.usage.list(ANN, "2026-11")
    assert (sum_.requests, sum_.completion_tokens) == (2, 14)


async def test_months_and_owners_are_apart_and_days_are_in_order(stores: Stores) -> None:
    tallies = [
        Tally(ANN, "2026-11-24", "small", requests=1),
        Tally(ANN, "2026-11-02", "tiny", requests=2),
        Tally(ANN, "2026-11-02", "small", requests=3),
        Tally(ANN, "2026-12-01", "small", requests=4),
        Tally("bob@example.com", "2026-11-24", "small", requests=5),
    ]
    await stores.usage.add(tallies, writer="a", number=1)
    assert await stores.usage.list(ANN, "2026-11") == [tallies[2], tallies[1], tallies[0]]
    assert await stores.usage.list("nobody@example.com", "2026-11") == []


async def test_many_writers_who_all_repeat_themselves_count_once_each(stores: Stores) -> None:
    calls = [stores.usage.add([TALLY], writer=f"w-{n % 10}", number=1) for n in range(40)]
    await asyncio.gather(*calls)
    (sum_,) = await stores.usage.list(ANN, "2026-11")
    assert sum_.requests == 10
