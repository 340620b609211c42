"""The promises of UsageStore: every token counts, and counts once; the first bill of a machine stands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from control_plane.aws_session import aws_session
from control_plane.books import Bill, BillKind, Tally
from control_plane.dynamo.table import DynamoTable, open_dynamo
from control_plane.dynamo.usage import DynamoUsage
from control_plane.errors import Unavailable
from control_plane.ledger import cost, entries
from control_plane.nodes import Cause
from tests.contract.under_test import Stores

ANN = "ann@example.com"
BOB = "bob@example.com"
TALLY = Tally(
    ANN, "2026-11-23T10:15", "org/small", "k1", "i-1",
    requests=1, prompt_tokens=10, cached_tokens=4, completion_tokens=7, reasoning_tokens=3, busy_us=1_000_001,
)  # fmt: skip


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


BILL = Bill(
    "i-1", BillKind.NODE, at("2026-11-30T23:50"), at("2026-12-01T00:10"), 1_016_000, 360_000,
    "org/small", "g5.xlarge", "spot", "us-east-1a", Cause(ANN, "k1", speculative=True), verified=True,
)  # fmt: skip


async def test_sums_of_one_quarter_add_up(stores: Stores) -> None:
    await stores.usage.add([TALLY], writer="a", number=1)
    await stores.usage.add([TALLY], writer="a", number=2)
    twice = replace(
        TALLY,
        requests=2,
        prompt_tokens=20,
        cached_tokens=8,
        completion_tokens=14,
        reasoning_tokens=6,
        busy_us=2_000_002,
    )
    assert await stores.usage.list(ANN, "2026-11") == [twice]


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


async def test_months_and_owners_are_apart_and_quarters_are_in_order(stores: Stores) -> None:
    tallies = [
        Tally(ANN, "2026-11-24T00:00", "small", requests=1),
        Tally(ANN, "2026-11-02T23:45", "tiny", requests=2),
        Tally(ANN, "2026-11-02T23:45", "small", requests=3),
        Tally(ANN, "2026-12-01T00:00", "small", requests=4),
        Tally(BOB, "2026-11-24T00:00", "small", requests=5),
    ]
    await stores.usage.add(tallies, writer="a", number=1)
    assert await stores.usage.list(ANN, "2026-11") == [tallies[2], tallies[1], tallies[0]]
    assert await stores.usage.list("nobody@example.com", "2026-11") == []
    assert sorted(await stores.usage.tallies("2026-11"), key=str) == sorted(
        [tallies[0], tallies[1], tallies[2], tallies[4]], key=str
    )
    assert await stores.usage.tallies("2026-12") == [tallies[3]]
    assert await stores.usage.tallies("2026-10") == []


async def test_keys_and_nodes_are_apart(stores: Stores) -> None:
    tallies = [TALLY, replace(TALLY, key="k2"), replace(TALLY, node="i-2"), replace(TALLY, key="", node="")]
    await stores.usage.add(tallies, writer="a", number=1)
    assert sorted(await stores.usage.list(ANN, "2026-11"), key=str) == sorted(tallies, key=str)


async def test_many_writers_who_all_repeat_themselves_count_once_each(stores: Stores) -> None:
    calls = [stores.usage.add([TALLY], writer=f"w-{n % 10}", number=1) for n in range(40)]
    await asyncio.gather(*calls)
    (sum_,) = await stores.usage.list(ANN, "2026-11")
    assert sum_.requests == 10


class Torn:
    """A table at which a call fails now and then: before it took effect, or after."""

    def __init__(self, rows: DynamoTable, chance: random.Random) -> None:
        self._rows = rows
        self._chance = chance

    async def insert(self, row: Mapping[str, Any]) -> None:
        await self._call(self._rows.insert(row))

    async def update(self, *told: Any, **more: Any) -> None:
        await self._call(self._rows.update(*told, **more))

    async def _call(self, call: Coroutine[Any, Any, object]) -> None:
        if self._chance.random() < 0.1:
            call.close()
            raise Unavailable("not taken")
        await call
        if self._chance.random() < 0.1:
            raise Unavailable("taken, and nobody knows")


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_dies_between_two_rows_every_sum_is_exact(tables: None, namespace: str, seed: int) -> None:
    """Batches of several rows and bills over two months, by writers that die in the middle and begin again."""
    chance = random.Random(seed)
    bills = [replace(BILL, id=f"i-{one}", ended_at=BILL.ended_at + 900 * one) for one in range(3)]
    quarters = ("2026-11-30T23:45", "2026-12-01T00:00")
    batches = [
        [
            replace(TALLY, owner=owner, slice=quarter, node=bill.id, busy_us=chance.randrange(10**9))
            for owner in (ANN, BOB)
            for quarter in quarters
        ]
        for bill in bills
    ]
    left: list[tuple[str, int]] = [(kind, one) for kind in ("bill", "batch") for one in range(len(bills))] * 2
    chance.shuffle(left)
    async with open_dynamo(aws_session()) as client:
        while left:
            kind, one = left[0]
            usage = DynamoUsage(client, namespace)
            usage._rows = Torn(usage._rows, chance)  # type: ignore[assignment]
            try:
                if kind == "bill":
                    await usage.close(bills[one])
                else:
                    await usage.add(batches[one], writer=f"w{one}", number=1)
            except Unavailable:
                chance.shuffle(left)
            else:
                del left[0]
        usage = DynamoUsage(client, namespace)
        kept = [each for month in ("2026-11", "2026-12") for each in await usage.bills(month)]
        used = [each for month in ("2026-11", "2026-12") for each in await usage.tallies(month)]
    assert sum(entry.micro_usd for entry in entries(kept, used)) == sum(map(cost, bills))
    assert entries(kept, used) == entries(bills, [each for batch in batches for each in batch])


async def test_a_bill_is_found_in_every_month_that_the_machine_lived_in(stores: Stores) -> None:
    await stores.usage.close(BILL)
    assert await stores.usage.bills("2026-10") == []
    assert await stores.usage.bills("2026-11") == [BILL]
    assert await stores.usage.bills("2026-12") == [BILL]
    assert await stores.usage.bills("2027-01") == []


async def test_a_machine_that_ends_with_the_month_is_in_that_month_alone(stores: Stores) -> None:
    await stores.usage.close(replace(BILL, ended_at=at("2026-12-01T00:00")))
    assert len(await stores.usage.bills("2026-11")) == 1
    assert await stores.usage.bills("2026-12") == []


async def test_the_first_minute_is_paid_in_the_next_month_too_where_it_ends_there(stores: Stores) -> None:
    short = replace(BILL, started_at=at("2026-11-30T23:59") + 30, ended_at=at("2026-11-30T23:59") + 45)
    await stores.usage.close(short)
    assert await stores.usage.bills("2026-11") == await stores.usage.bills("2026-12") == [short]
    assert await stores.usage.bills("2027-01") == []


@pytest.mark.parametrize("months", [0, 3])
async def test_the_first_bill_that_is_kept_stands(stores: Stores, months: int) -> None:
    first = replace(BILL, ended_at=BILL.ended_at + months * 31 * 86400)
    await stores.usage.close(first)
    await stores.usage.close(replace(first, ended_at=first.ended_at - 300, verified=False))
    await stores.usage.close(replace(first, ended_at=first.ended_at + 300))
    assert await stores.usage.bills("2026-11") == [first]
    assert await stores.usage.bills("2026-12") == [first]


async def test_the_bill_of_a_task_only_grows(stores: Stores) -> None:
    task = Bill("task-1", BillKind.TASK, at("2026-11-23T10:00"), at("2026-11-23T10:10"), 24_000)
    for minutes in (0, 60, 0, 30):
        await stores.usage.extend(replace(task, ended_at=task.ended_at + 60 * minutes))
    assert await stores.usage.bills("2026-11") == [replace(task, ended_at=task.ended_at + 3600)]
