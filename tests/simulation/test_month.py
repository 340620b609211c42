"""A month of wakes, crashes and outages: the ledger and the cloud's own instance times agree to the micro-dollar."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from control_plane.books import Bill, BillKind, Tally
from control_plane.ledger import Entry, cost, entries
from control_plane.rates import Sizes, node_rate
from control_plane.report import By, rows, total
from gpu_node.protocol import NodeState
from tests.simulation.schedule import MODELS, Ask, CrashTask, KillMachine, Outage, Retire, Schedule, Trouble
from tests.simulation.settings import JANITOR_S
from tests.simulation.timeline import EPOCH
from tests.simulation.world import World

DAYS = 30
WAKES = 30
RATE = node_rate("g6.xlarge", Sizes())


def month(seed: int) -> Schedule:
    """A month in which somebody asks about once a day, and something breaks nearly every time."""
    rng = random.Random(seed)
    events: list[object] = []
    for _ in range(WAKES):
        at = rng.uniform(0, DAYS * 86400)
        for _ in range(rng.randint(1, 3)):
            events.append(
                Ask(at + rng.uniform(0, 300), MODELS[0], rng.choice((5.0, 40.0)), rng.random() < 0.5, "python")
            )
        broken = at + rng.uniform(0, 500)
        what = (Outage(broken, rng.uniform(5, 60), "tables"), CrashTask(broken), KillMachine(broken),
                Retire(broken, rolling=True, overlap_s=10.0), Outage(broken, 30.0, "cloud"))  # fmt: skip
        events.append(rng.choice(what))
    events += [
        Trouble(kind, method, nth, how)
        for kind in ("task", "janitor")
        for method in ("usage.close", "usage.add", "nodes.move", "cloud.lifetime", "usage.extend")
        for nth, how in ((2, "lost"), (5, "refused"), (7, "twice"), (9, "crash-after"), (11, "late"))
    ]
    return Schedule(seed, tuple(sorted(events, key=lambda event: getattr(event, "at", 0.0))), task_start_s=20.0)  # type: ignore[arg-type]


class Month(World):
    """A world that rests most of the time: rounds of the janitor that would find nothing to do are left out."""

    def _janitor(self) -> None:
        if self.watch.at_rest() and not self.wishes.rows and not self.nodes_left and not self.over:
            self.later(JANITOR_S, self._janitor)
        else:
            super()._janitor()

    @property
    def nodes_left(self) -> bool:
        return any(node.state is not NodeState.TERMINATED for node in self.nodes.rows.values())


async def facts(world: World) -> list[Entry]:
    bills: list[Bill] = []
    tallies: list[Tally] = []
    for name in months():
        bills += await world.usage.bills(name)
        tallies += await world.usage.tallies(name)
    return list(entries(bills, tallies))


def months() -> list[str]:
    moments = (EPOCH + day * 86400 for day in range(-1, DAYS + 32, 27))
    return sorted({datetime.fromtimestamp(moment, UTC).strftime("%Y-%m") for moment in moments})


def test_a_month_is_reconciled_with_the_clouds_own_instance_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.world.ROUND_S", 60.0)
    world = Month(month(1))
    assert world.run() is None
    lived = world.cloud.lifetimes
    assert len(lived) >= WAKES // 2
    expected = 0
    for life in lived.values():
        assert life.launched_at is not None
        assert life.ended_at is not None
        begin_ms, end_ms = round(life.launched_at * 1000), round(life.ended_at * 1000)
        expected += RATE.at_launch + RATE.per_hour * max(end_ms - begin_ms, 60_000) // 3_600_000
    found = asyncio.run(facts(world))
    bills = world.usage.closed.values()
    nodes = [bill for bill in bills if bill.kind is BillKind.NODE]
    assert {bill.id for bill in nodes} == set(lived)
    assert all(bill.verified for bill in nodes)
    assert sum(map(cost, nodes)) == expected
    assert total(found).micro_usd == sum(map(cost, bills))
    for by in By:
        assert total(row.sum for row in rows(found, by, ZoneInfo("Europe/Berlin"))) == total(found)
