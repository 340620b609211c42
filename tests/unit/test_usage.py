"""The meter: every request counts once, and every moment of a node belongs to somebody who used it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.books import Tally
from control_plane.errors import Unavailable
from control_plane.usage import SLICE_S, Meter, Timed, Tokens, Use, slice_name, slice_start
from tests.memory import FakeClock
from tests.memory_books import MemoryUsage

TOKENS = Tokens(prompt=7, cached=2, completion=3, reasoning=1)
ANN = Use("ann", "k1", "m", "i-1")
BOB = Use("bob", "k2", "m", "i-1")


def at(moment: str) -> FakeClock:
    return FakeClock(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


def requests(store: MemoryUsage) -> int:
    return sum(tally.requests for tally in store.rows.values())


def busy_us(store: MemoryUsage, use: Use | None = None) -> int:
    return sum(t.busy_us for t in store.rows.values() if use is None or (t.owner, t.key) == (use.owner, use.key))


async def test_requests_are_summed_by_caller_quarter_model_and_node() -> None:
    store = MemoryUsage()
    meter = Meter(store, clock=at("2026-03-01T12:20:00"), writer="w")
    for use in (ANN, ANN, BOB, ANN._replace(model="n"), ANN._replace(key="k9"), ANN._replace(node="i-2")):
        meter.count(use, TOKENS)
    await meter.flush()
    assert store.rows["ann", "2026-03-01T12:15", "m", "k1", "i-1"] == Tally(
        "ann", "2026-03-01T12:15", "m", "k1", "i-1", 2, 14, 4, 6, 2
    )
    assert (requests(store), len(store.rows)) == (6, 5)


async def test_a_request_without_tokens_counts_as_one() -> None:
    store = MemoryUsage()
    meter = Meter(store, clock=at("2026-03-01T12:00:00"), writer="w")
    meter.count(ANN, None)
    await meter.flush()
    assert list(store.rows.values()) == [Tally("ann", "2026-03-01T12:00", "m", "k1", "i-1", 1)]


async def test_a_quarter_ends_on_the_second() -> None:
    store, clock = MemoryUsage(), at("2026-02-28T23:59:59.9")
    meter = Meter(store, clock=clock, writer="w")
    meter.count(ANN, TOKENS)
    clock.step(0.2)
    meter.count(ANN, TOKENS)
    await meter.flush()
    assert {key[1] for key in store.rows} == {"2026-02-28T23:45", "2026-03-01T00:00"}


async def test_nothing_counted_is_nothing_written() -> None:
    store = MemoryUsage()
    store.broken.fail("add")
    await Meter(store, clock=FakeClock(), writer="w").flush()
    assert store.rows == {}


async def test_a_write_that_failed_is_repeated_and_counts_once() -> None:
    store = MemoryUsage()
    meter = Meter(store, clock=FakeClock(), writer="w")
    meter.count(ANN, TOKENS)
    store.broken.fail("add")
    store.broken.lose_reply("add")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await meter.flush()
    await meter.flush()
    await meter.flush()
    assert requests(store) == 1


async def test_two_writers_do_not_swallow_each_others_numbers() -> None:
    store, clock = MemoryUsage(), FakeClock()
    for writer in ("w1", "w2"):
        meter = Meter(store, clock=clock, writer=writer)
        meter.count(ANN, TOKENS)
        await meter.flush()
    assert requests(store) == 2


async def test_one_flush_writes_everything_even_after_a_failed_one() -> None:
    store = MemoryUsage()
    meter = Meter(store, clock=FakeClock(), writer="w")
    meter.count(ANN, TOKENS)
    store.broken.fail("add")
    with pytest.raises(Unavailable):
        await meter.flush()
    meter.count(ANN, TOKENS)
    await meter.flush()  # the last one before the process ends
    assert requests(store) == 2


@given(st.lists(st.sampled_from(["count", "flush", "fail", "lose", "midnight"]), max_size=40))
async def test_every_request_counts_once_whatever_fails(steps: list[str]) -> None:
    store, clock, counted = MemoryUsage(), FakeClock(), 0
    meter = Meter(store, clock=clock, writer="w")
    for step in (*steps, "flush", "flush", "flush"):
        match step:
            case "count":
                meter.count(ANN, TOKENS)
                counted += 1
            case "fail":
                store.broken.fail("add")
            case "lose":
                store.broken.lose_reply("add")
            case "midnight":
                clock.step(86_400)
            case _:
                await _flush(meter)
    for _ in range(len(steps)):
        await _flush(meter)
    assert requests(store) == counted


async def _flush(meter: Meter) -> bool:
    try:
        await meter.flush()
    except Unavailable:
        return False
    return True


async def test_a_flush_ends_though_requests_go_on_while_it_writes() -> None:
    clock, store = FakeClock(), MemoryUsage()
    meter = Meter(store, clock=clock, writer="w")
    batches = 0

    async def add(*_args: object, **_kwargs: object) -> None:
        nonlocal batches
        batches += 1
        meter.count(ANN, None)

    store.add = add  # type: ignore[method-assign]  # a store in front of a busy relay
    meter.count(ANN, None)
    await meter.flush()
    assert batches == 1


# -- the time of nodes


async def test_a_moment_that_two_requests_share_is_half_of_each() -> None:
    store, clock = MemoryUsage(), at("2026-03-01T12:00:00")
    meter = Meter(store, clock=clock, writer="w")
    with meter.timed(ANN):
        clock.step(10)
        with meter.timed(BOB):
            clock.step(10)
        clock.step(1)
    await meter.flush()
    assert (busy_us(store, ANN), busy_us(store, BOB)) == (16_000_000, 5_000_000)


async def test_a_long_request_is_counted_in_every_quarter_it_ran_in_and_while_it_runs() -> None:
    store, clock = MemoryUsage(), at("2026-03-01T12:10:00")
    meter = Meter(store, clock=clock, writer="w")
    with meter.timed(ANN):
        clock.step(22 * 60)
        await meter.flush()
        assert [(key[1][-5:], tally.busy_us // 60_000_000) for key, tally in sorted(store.rows.items())] == [
            ("12:00", 5), ("12:15", 15), ("12:30", 2)
        ]  # fmt: skip
        clock.step(60)
    await meter.flush()
    assert busy_us(store) == 23 * 60_000_000


async def test_a_clock_that_is_set_back_counts_nothing_twice() -> None:
    store, clock = MemoryUsage(), at("2026-03-01T12:10:00")
    meter = Meter(store, clock=clock, writer="w")
    with meter.timed(ANN):
        clock.step(10)
        await meter.flush()
        clock.step(-5)
        await meter.flush()
        clock.step(6)
    await meter.flush()
    assert busy_us(store) == 11_000_000


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), st.integers(0, 2_000)), max_size=40))
async def test_shares_of_a_node_add_up_to_the_time_in_which_anybody_used_it(steps: list[tuple[int, int]]) -> None:
    store, clock = MemoryUsage(), at("2026-03-31T23:00:00")
    meter, used_s, parts = Meter(store, clock=clock, writer="w"), 0, 1
    open_: dict[int, Timed] = {}
    for who, seconds in steps:
        if who in open_:
            open_.pop(who).__exit__()
        else:
            open_[who] = meter.timed(ANN._replace(owner=f"u{who % 3}"))
            open_[who].__enter__()
        clock.step(seconds)
        used_s += seconds if open_ else 0
        parts += (seconds // SLICE_S + 2) * max(len(open_), 1)
        await meter.flush()
    for timed in open_.values():
        timed.__exit__()
    await meter.flush()
    assert used_s * 1_000_000 - parts <= busy_us(store) <= used_s * 1_000_000  # a share is rounded down


def test_a_quarter_has_a_name_and_a_beginning() -> None:
    moment = at("2026-11-30T23:59:59").now
    assert slice_name(moment) == "2026-11-30T23:45"
    assert slice_start("2026-11-30T23:45") == moment - 14 * 60 - 59
