"""Budgets as events: each state once a month and limit, by whichever process sees it first."""

from __future__ import annotations

from control_plane.books import Limit
from control_plane.budget import Budgets
from control_plane.chronicle import Chronicle
from control_plane.event import EventKind
from control_plane.event_log import EventLog
from tests.memory import FakeClock, MemoryEvents

LIMIT = Limit("user:ann@example.com", 10_000_000, 12_000_000)


def spent(micro_usd: int, *, of: int = LIMIT.micro_usd) -> Budgets:
    limit = Limit(LIMIT.scope, of, of * 12 // 10)
    return Budgets(limits={LIMIT.scope: limit}, spent={LIMIT.scope: micro_usd})


async def chronicle(store: MemoryEvents, writer: str) -> tuple[Chronicle, EventLog]:
    log = EventLog(store, clock=FakeClock(), writer=writer, cause="control plane")
    made = Chronicle(log)
    await made.recall(store)
    return made, log


async def test_a_budget_is_told_when_it_is_nearly_spent_spent_and_overspent_each_once() -> None:
    store = MemoryEvents()
    told, log = await chronicle(store, "a")
    for micro_usd in (7_900_000, 8_000_000, 8_500_000, 10_000_000, 12_000_000, 12_500_000):
        told.spent(spent(micro_usd), "2026-11")
    await log.flush()
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


async def test_the_next_task_does_not_tell_it_again_and_the_next_month_does() -> None:
    store = MemoryEvents()
    told, log = await chronicle(store, "a")
    told.spent(spent(9_000_000), "2026-11")
    await log.flush()
    told, log = await chronicle(store, "b")
    told.spent(spent(9_000_000), "2026-11")
    told.spent(spent(9_000_000), "2026-12")
    await log.flush()
    assert [event.data["month"] for event in store.kept] == ["2026-11", "2026-12"]


async def test_of_a_budget_that_was_raised_all_is_told_again_and_by_the_next_task_once() -> None:
    store = MemoryEvents()
    for writer in ("a", "b"):
        told, log = await chronicle(store, writer)
        told.spent(spent(12_000_000), "2026-11")
        for micro_usd in (16_500_000, 20_100_000):
            told.spent(spent(micro_usd, of=20_000_000), "2026-11")
        await log.flush()
    assert [(event.kind, event.data["limit"]) for event in store.kept] == [
        (EventKind.BUDGET_EXCEEDED, 10_000_000),
        (EventKind.BUDGET_WARNED, 20_000_000),
        (EventKind.BUDGET_REACHED, 20_000_000),
    ]


async def test_nothing_is_told_before_it_is_known_what_was() -> None:
    log = EventLog(MemoryEvents(), clock=FakeClock(), writer="a", cause="control plane")
    Chronicle(log).spent(spent(9_000_000), "2026-11")
    assert log.waiting == 0
