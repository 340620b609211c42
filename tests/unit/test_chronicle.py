"""Budgets as events: each state once a month and limit, by whichever process sees it first."""

from __future__ import annotations

import logging

import pytest

from control_plane.books import Limit
from control_plane.budget import Budgets
from control_plane.chronicle import RECALLED, Chronicle
from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.event_log import MAX_BATCH, EventLog
from tests.memory import FakeClock, MemoryEvents

LIMIT = Limit("user:ann@example.com", 10_000_000, 12_000_000)


def spent(micro_usd: int, *, of: int = LIMIT.micro_usd) -> Budgets:
    limit = Limit(LIMIT.scope, of, of * 12 // 10)
    return Budgets(limits={LIMIT.scope: limit}, spent={LIMIT.scope: micro_usd})


async def chronicle(store: MemoryEvents | None, writer: str = "a") -> tuple[Chronicle, EventLog]:
    log = EventLog(store, clock=FakeClock(), writer=writer, cause="control plane")
    made = Chronicle(log)
    await made.recall(store)
    return made, log


async def test_a_budget_is_told_when_it_is_nearly_spent_spent_and_overspent_each_once() -> None:
    store = MemoryEvents()
    told, _ = await chronicle(store)
    for micro_usd in (7_900_000, 8_000_000, 8_500_000, 10_000_000, 12_000_000, 12_500_000):
        await told.spent(spent(micro_usd), "2026-11")
    assert [event.kind for event in store.kept] == [
        EventKind.BUDGET_WARNED,
        EventKind.BUDGET_REACHED,
        EventKind.BUDGET_EXCEEDED,
    ]
    assert store.kept[0].data == {
        "scope": LIMIT.scope,
        "month": "2026-11",
        "spent": 8_000_000,
        "limit": 10_000_000,
    }


async def test_the_next_task_does_not_tell_it_again_and_the_next_month_does(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryEvents()
    with caplog.at_level(logging.INFO):
        for writer in ("a", "b"):
            told, _ = await chronicle(store, writer)
            await told.spent(spent(9_000_000), "2026-11")
        await told.spent(spent(9_000_000), "2026-12")
    assert [event.data["month"] for event in store.kept] == ["2026-11", "2026-12"]
    assert len(caplog.records) == 2  # and where there is no event, there is no line for a metric to be counted from


async def test_it_is_not_told_again_however_much_happened_since() -> None:
    store = MemoryEvents()
    told, _ = await chronicle(store)
    await told.spent(spent(9_000_000), "2026-11")
    _, log = await chronicle(store, "busy")
    for _ in range(RECALLED + MAX_BATCH):
        log.tell(EventKind.TASKS_SET, "Something else.")
    await log.flush()
    later, _ = await chronicle(store, "b")
    await later.spent(spent(9_000_000), "2026-11")
    assert [event.kind for event in store.kept].count(EventKind.BUDGET_WARNED) == 1


async def test_of_a_budget_that_was_raised_all_is_told_again_and_by_the_next_task_once() -> None:
    store = MemoryEvents()
    for writer in ("a", "b"):
        told, _ = await chronicle(store, writer)
        await told.spent(spent(12_000_000), "2026-11")
        for micro_usd in (16_500_000, 20_100_000):
            await told.spent(spent(micro_usd, of=20_000_000), "2026-11")
    assert [(event.kind, event.data["limit"]) for event in store.kept] == [
        (EventKind.BUDGET_EXCEEDED, 10_000_000),
        (EventKind.BUDGET_WARNED, 20_000_000),
        (EventKind.BUDGET_REACHED, 20_000_000),
    ]


async def test_what_could_not_be_told_is_told_at_the_next_look_and_once_although_the_reply_was_lost() -> None:
    store = MemoryEvents()
    told, _ = await chronicle(store)
    for fail in (store.broken.fail, store.broken.lose_reply):
        fail("add")
        with pytest.raises(Unavailable):
            await told.spent(spent(9_000_000), "2026-11")
    await told.spent(spent(9_000_000), "2026-11")
    assert [event.kind for event in store.kept] == [EventKind.BUDGET_WARNED]


async def test_where_nothing_is_kept_the_line_stands_once_a_process(caplog: pytest.LogCaptureFixture) -> None:
    told, _ = await chronicle(None)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await told.spent(spent(9_000_000), "2026-11")
    assert len(caplog.records) == 1
