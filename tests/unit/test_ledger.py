"""The ledger: every micro-dollar is attributed, none twice, whatever was written when and by whom."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.books import Bill, BillKind, Tally
from control_plane.errors import Unavailable
from control_plane.ledger import CONTROL_PLANE, Account, Entry, apportion, cost, entries, run_dict, spent_by_scope
from control_plane.nodes import NOBODY, Cause
from control_plane.report import By, Span, as_csv, break_even, closed_prices, rows, total
from control_plane.usage import slice_name
from tests.memory_books import MemoryUsage

ANN, BOB = "ann@example.com", "bob@example.com"
HOUR = 3600.0


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


def bill(begin: str, seconds: float, **changes: object) -> Bill:
    start = at(begin)
    whole = Bill("i-1", BillKind.NODE, start, start + seconds, 1_016_001, model="m", cause=Cause(ANN, "k1"))
    return replace(whole, **changes)  # type: ignore[arg-type]


def use(owner: str, moment: str, seconds: float, **changes: object) -> Tally:
    tally = Tally(owner, moment, "m", f"key-{owner[0]}", "i-1", requests=1, busy_us=round(seconds * 1e6))
    return replace(tally, **changes)  # type: ignore[arg-type]


def by_owner(found: Sequence[Entry]) -> Counter[str]:
    spent: Counter[str] = Counter()
    for entry in found:
        spent[entry.account.owner] += entry.micro_usd
    return spent


# -- what a machine costs


def test_a_machine_costs_its_hours_times_its_price_and_once_its_launch() -> None:
    assert cost(bill("2026-03-01T12:00", HOUR)) == 1_016_001
    assert cost(bill("2026-03-01T12:00", 1800.0)) == 508_000
    assert cost(bill("2026-03-01T12:00", HOUR, launch_micro_usd=360_000)) == 1_376_001


def test_the_first_minute_is_paid_whole() -> None:
    assert cost(bill("2026-03-01T12:00", 1.0)) == cost(bill("2026-03-01T12:00", 60.0)) == 16_933
    assert cost(bill("2026-03-01T12:00", 61.0)) > 16_933


def test_boot_and_idle_are_on_the_account_of_who_caused_the_wake_and_use_on_the_users() -> None:
    node = bill("2026-03-01T12:00", 1800.0, micro_usd_per_hour=3_600_000)
    found = entries([node], [use(BOB, "2026-03-01T12:15", 300.0), use(ANN, "2026-03-01T12:15", 100.0)])
    assert by_owner(found) == {BOB: 300_000, ANN: 1_500_000}
    whole = total(found)
    assert (whole.gpu_ms, whole.busy_ms) == (1_800_000, 400_000)


def test_what_nobody_caused_is_the_deployments() -> None:
    found = entries([bill("2026-03-01T12:00", HOUR, cause=Cause())], [])
    assert by_owner(found) == {NOBODY: 1_016_001}


def test_the_control_planes_task_is_shared_by_all_who_use_any_node() -> None:
    task = bill("2026-03-01T12:00", 900.0, id="task-1", kind=BillKind.TASK, model="", micro_usd_per_hour=36_000)
    found = entries([task], [use(BOB, "2026-03-01T12:00", 450.0, node="i-7", model="x")])
    assert by_owner(found) == {BOB: 4_500, ANN: 4_500}
    assert {entry.account.model for entry in found if entry.micro_usd} == {CONTROL_PLANE}
    assert total(found).gpu_ms == 0


def test_more_than_a_quarter_in_use_is_a_quarter() -> None:
    node = bill("2026-03-01T12:00", 900.0, micro_usd_per_hour=3_600_000)
    found = entries([node], [use(BOB, "2026-03-01T12:00", 800.0), use(ANN, "2026-03-01T12:00", 400.0)])
    assert by_owner(found) == {BOB: 600_000, ANN: 300_000}


def test_a_start_on_speculation_is_told_apart_until_it_is_used() -> None:
    node = bill("2026-03-01T12:00", 900.0, micro_usd_per_hour=3_600_000, cause=Cause(ANN, "k1", speculative=True))
    spent = spent_by_scope(entries([node], [use(ANN, "2026-03-01T12:00", 300.0)]))
    assert spent == {
        "deployment": 900_000, "user:ann@example.com": 900_000,
        "speculative": 600_000, "key:k1": 600_000, "key:key-a": 300_000,
    }  # fmt: skip


def test_a_bill_that_is_known_twice_counts_once_and_the_clouds_word_goes_first() -> None:
    believed, verified = bill("2026-03-01T12:00", 2 * HOUR), bill("2026-03-01T12:00", HOUR, verified=True)
    assert total(entries([believed, verified, believed], [])).micro_usd == cost(verified)


@given(st.integers(0, 10**9), st.dictionaries(st.integers(0, 99), st.integers(1, 10**12), min_size=1, max_size=8))
def test_shares_add_up_and_none_is_a_micro_dollar_off(whole: int, weights: dict[int, int]) -> None:
    named = {Account(str(who), "", ""): weight for who, weight in weights.items()}
    shares = apportion(whole, named)
    assert sum(shares.values()) == whole
    for account, weight in named.items():
        assert abs(shares[account] * sum(named.values()) - whole * weight) < sum(named.values())


# -- any facts, in any order, any number of times

_MOMENTS = st.floats(0, 60 * 86400, allow_nan=False)
_BEGIN = at("2026-02-10T00:00")


@st.composite
def _facts(draw: st.DrawFn) -> tuple[list[Bill], list[Tally]]:
    bills, tallies = [], []
    for number in range(draw(st.integers(1, 4))):
        start = _BEGIN + draw(_MOMENTS)
        life = draw(st.floats(0, 3 * 86400))
        kind = draw(st.sampled_from(list(BillKind)))
        cause = draw(st.sampled_from([Cause(), Cause(ANN, "k1"), Cause(BOB, ""), Cause(ANN, "k1", speculative=True)]))
        rate = draw(st.integers(1, 60_000_000))
        one = Bill(f"i-{number}", kind, start, start + life, rate, draw(st.sampled_from([0, 360_000])), cause=cause)
        bills.append(replace(one, model="" if kind is BillKind.TASK else f"m{number % 2}"))
        for _ in range(draw(st.integers(0, 5))):
            moment = start + draw(st.floats(0, 1)) * life
            owner = draw(st.sampled_from([ANN, BOB, "cy@example.com"]))
            busy_us = draw(st.integers(0, 2_000_000_000))
            tally = Tally(owner, slice_name(moment), f"m{number % 2}", owner[0], f"i-{number}", 1, 10, 2, 5, 1, busy_us)
            tallies.append(tally)
    return bills, tallies


_ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati", "Australia/Lord_Howe"]


@settings(max_examples=60)
@given(_facts(), st.sampled_from(_ZONES))
def test_every_micro_dollar_is_attributed_and_every_report_adds_up(
    facts: tuple[list[Bill], list[Tally]], zone: str
) -> None:
    bills, tallies = facts
    found = entries(bills, tallies)
    whole = total(found)
    assert whole.micro_usd == sum(map(cost, bills))
    nodes = [each for each in bills if each.kind is BillKind.NODE]
    lives = (max(round(each.ended_at * 1000), round(each.started_at * 1000) + 60_000) for each in nodes)
    assert whole.gpu_ms == sum(lives) - sum(round(each.started_at * 1000) for each in nodes)
    assert whole.requests == len(tallies)
    assert 0 <= whole.busy_ms <= whole.gpu_ms
    for by in By:
        told = rows(found, by, ZoneInfo(zone))
        assert total(row.sum for row in told) == whole
        assert len({(row.name, row.owner) for row in told}) == len(told)


@settings(max_examples=40)
@given(_facts(), st.randoms(use_true_random=False))
async def test_replays_crashes_and_lost_replies_change_no_sum(
    facts: tuple[list[Bill], list[Tally]], chance: random.Random
) -> None:
    """Writers that die at any call, begin again, repeat themselves and overtake one another."""
    bills, tallies = facts
    store = MemoryUsage()
    writes = [("bill", each) for each in bills] + [("batch", number) for number in range(len(tallies))]
    writes = writes * 2 + chance.sample(writes, len(writes) // 2)
    chance.shuffle(writes)
    left = {index: write for index, write in enumerate(writes)}
    while left:
        index = chance.choice(list(left))
        if chance.random() < 0.4:
            chance.choice([store.broken.fail, store.broken.lose_reply])(chance.choice(["add", "close"]))
        try:
            await _written(store, left[index], tallies)
        except Unavailable:
            continue
        del left[index]
    months = [f"2026-{month:02d}" for month in range(1, 6)]
    kept = [each for month in months for each in await store.bills(month)]
    used = [each for month in months for each in await store.tallies(month)]
    assert total(entries(kept, used)).micro_usd == sum(map(cost, bills))
    assert entries(kept, used) == entries(bills, tallies)


async def _written(store: MemoryUsage, write: tuple[str, object], tallies: list[Tally]) -> None:
    kind, what = write
    if kind == "bill":
        assert isinstance(what, Bill)
        await store.close(what)
    else:
        assert isinstance(what, int)
        await store.add([tallies[what]], writer=f"w{what}", number=1)


# -- days of a zone


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-29", 24)], ids=["spring", "autumn", "plain"]
)
def test_a_day_has_the_hours_that_its_zone_gives_it(day: str, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    first = date.fromisoformat(day)
    span = Span(first, first, zone)
    assert span.until - span.since == hours * HOUR
    node = bill("2026-01-01T00:00", 365 * 86400.0, micro_usd_per_hour=1_000_000)
    found = [entry for entry in entries([node], []) if span.since <= entry.at < span.until]
    assert total(found).micro_usd == hours * 1_000_000
    (row,) = rows(found, By.DAY, zone)
    assert row.name == day


@pytest.mark.parametrize("zone", _ZONES)
def test_the_days_of_a_year_are_its_hours_in_any_zone(zone: str) -> None:
    where = ZoneInfo(zone)
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    spans = [Span(day, day, where) for day in days]
    assert all(before.until == after.since for before, after in itertools.pairwise(spans))
    assert all(span.since % 900 == 0 for span in spans)


def test_a_month_ends_with_its_zone() -> None:
    berlin, month = ZoneInfo("Europe/Berlin"), date(2026, 11, 1)
    span = Span(month, date(2026, 11, 30), berlin)
    assert (span.since, span.until) == (at("2026-10-31T23:00"), at("2026-11-30T23:00"))


# -- how it is told


def test_csv_has_a_header_the_rows_and_the_total_and_no_formula() -> None:
    found = entries([bill("2026-03-01T23:30", HOUR, cause=Cause("=cmd@example.com", "k"))], [])
    told = as_csv(rows(found, By.OWNER, ZoneInfo("UTC")), total(found), By.OWNER).splitlines()
    assert told[0].startswith("owner,micro_usd,requests,prompt_tokens")
    assert told[1] == "'=cmd@example.com,1016001,0,0,0,0,0,3600.0,0.0"
    assert told[2] == "total,1016001,0,0,0,0,0,3600.0,0.0"


def test_a_key_is_told_with_its_owner() -> None:
    found = entries([bill("2026-03-01T12:00", HOUR)], [])
    (row,) = rows(found, By.KEY, ZoneInfo("UTC"))
    assert row.to_dict(By.KEY)["owner"] == ANN
    assert row.to_dict(By.KEY)["key"] == "k1"


def test_what_runs_is_told_together() -> None:
    told = run_dict([bill("2026-03-01T12:00", HOUR), bill("2026-03-01T11:00", HOUR, id="i-2")])
    assert told == {"started": at("2026-03-01T11:00"), "usd_per_h": 2.032002, "micro_usd": 2_032_002}
    assert run_dict([]) is None


def test_break_even_is_the_price_of_the_same_tokens_elsewhere() -> None:
    used = Entry(0, Account("", "", ""), micro_usd=2_000_000, gpu_ms=7_200_000, prompt_tokens=3_000_000,
                 cached_tokens=1_000_000, completion_tokens=500_000)  # fmt: skip
    told = break_even(used)
    terra = next(each for each in told["closed"] if each["name"] == "gpt-6.1-terra")
    assert terra["micro_usd"] == 2 * 1_000_000 + 50_000 + 2_500_000
    assert terra["cheaper_here"] is True
    assert (told["usd_per_million_tokens"], terra["usd_per_million_tokens"]) == (0.5714, 1.3)
    # At this many tokens an hour, of this mix, both cost the same.
    needed, had = terra["break_even_tokens_per_gpu_hour"], told["tokens_per_gpu_hour"]
    assert needed
    assert had
    assert needed / had == pytest.approx(2_000_000 / 4_550_000, rel=1e-4)
    assert told["prices"]["date"] == closed_prices().date.isoformat()


def test_nothing_used_breaks_even_nowhere() -> None:
    told = break_even(Entry(0, Account("", "", "")))
    assert (told["tokens_per_gpu_hour"], told["closed"][0]["break_even_tokens_per_gpu_hour"]) == (None, None)
