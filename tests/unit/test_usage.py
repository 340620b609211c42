"""The ledger: every request counts once, whatever the store does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import Unavailable
from control_plane.ports import Tally
from control_plane.usage import Ledger, Tokens
from tests.memory import FakeClock, MemoryUsage

TOKENS = Tokens(prompt=7, cached=2, completion=3)


def at(moment: str) -> FakeClock:
    return FakeClock(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


def requests(store: MemoryUsage) -> int:
    return sum(tally.requests for tally in store.rows.values())


async def test_requests_are_summed_by_owner_day_and_model() -> None:
    store = MemoryUsage()
    ledger = Ledger(store, clock=at("2026-03-01T12:00:00"), writer="w")
    for owner, model in (("ann", "m"), ("ann", "m"), ("bob", "m"), ("ann", "n")):
        ledger.count(owner, model, TOKENS)
    await ledger.flush()
    assert store.rows["ann", "2026-03-01", "m"] == Tally("ann", "2026-03-01", "m", 2, 14, 4, 6)
    assert requests(store) == 4


async def test_a_request_without_tokens_counts_as_one() -> None:
    store = MemoryUsage()
    ledger = Ledger(store, clock=at("2026-03-01T12:00:00"), writer="w")
    ledger.count("ann", "m", None)
    await ledger.flush()
    assert list(store.rows.values()) == [Tally("ann", "2026-03-01", "m", 1)]


async def test_a_day_ends_at_midnight_utc() -> None:
    store, clock = MemoryUsage(), at("2026-02-28T23:59:59.9")
    ledger = Ledger(store, clock=clock, writer="w")
    ledger.count("ann", "m", TOKENS)
    clock.step(0.2)
    ledger.count("ann", "m", TOKENS)
    await ledger.flush()
    assert {day for _, day, _ in store.rows} == {"2026-02-28", "2026-03-01"}


async def test_nothing_counted_is_nothing_written() -> None:
    store = MemoryUsage()
    store.broken.fail("add")
    await Ledger(store, clock=FakeClock(), writer="w").flush()
    assert store.rows == {}


async def test_a_write_that_failed_is_repeated_and_counts_once() -> None:
    store = MemoryUsage()
    ledger = Ledger(store, clock=FakeClock(), writer="w")
    ledger.count("ann", "m", TOKENS)
    store.broken.fail("add")
    store.broken.lose_reply("add")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ledger.flush()
    await ledger.flush()
    await ledger.flush()
    assert requests(store) == 1


async def test_two_writers_do_not_swallow_each_others_numbers() -> None:
    store, clock = MemoryUsage(), FakeClock()
    for writer in ("w1", "w2"):
        ledger = Ledger(store, clock=clock, writer=writer)
        ledger.count("ann", "m", TOKENS)
        await ledger.flush()
    assert requests(store) == 2


async def test_one_flush_writes_everything_even_after_a_failed_one() -> None:
    store = MemoryUsage()
    ledger = Ledger(store, clock=FakeClock(), writer="w")
    ledger.count("ann", "m", TOKENS)
    store.broken.fail("add")
    with pytest.raises(Unavailable):
        await ledger.flush()
    ledger.count("ann", "m", TOKENS)
    await ledger.flush()  # the last one before the process ends
    assert requests(store) == 2


@given(st.lists(st.sampled_from(["count", "flush", "fail", "lose", "midnight"]), max_size=40))
async def test_every_request_counts_once_whatever_fails(steps: list[str]) -> None:
    store, clock, counted = MemoryUsage(), FakeClock(), 0
    ledger = Ledger(store, clock=clock, writer="w")
    for step in (*steps, "flush", "flush", "flush"):
        match step:
            case "count":
                ledger.count("ann", "m", TOKENS)
                counted += 1
            case "fail":
                store.broken.fail("add")
            case "lose":
                store.broken.lose_reply("add")
            case "midnight":
                clock.step(86_400)
            case _:
                await _flush(ledger)
    for _ in range(len(steps)):
        await _flush(ledger)
    assert requests(store) == counted


async def _flush(ledger: Ledger) -> bool:
    try:
        await ledger.flush()
    except Unavailable:
        return False
    return True


async def test_a_flush_ends_though_requests_go_on_while_it_writes() -> None:
    clock, store = FakeClock(), MemoryUsage()
    ledger = Ledger(store, clock=clock, writer="w")
    batches = 0

    async def add(*_args: object, **_kwargs: object) -> None:
        nonlocal batches
        batches += 1
        ledger.count("ann", "m", None)

    store.add = add  # type: ignore[method-assign]  # a store in front of a busy relay
    ledger.count("ann", "m", None)
    await ledger.flush()
    assert batches == 1
