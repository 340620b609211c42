"""What the month has cost, at its edges, with the limits that keys carry, and while something of it cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.books import Bill, BillKind, Limit, Tally
from control_plane.budget import DEPLOYMENT, Allowance
from control_plane.errors import Unavailable
from control_plane.ledger import cost, entries, running, spent_by_scope
from control_plane.nodes import UNASKED, Cause, Node
from control_plane.ports import KeyRow
from control_plane.rates import Sizes
from control_plane.spending import Spending
from control_plane.usage import slice_name
from tests.memory import FakeClock, MemoryKeys, MemoryNodes
from tests.memory_books import MemoryLimits, MemoryUsage
from tests.unit.planning import node

EDGE = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
FRESH_S = 30.0
ANN = Cause("ann@example.com", "k" * 16)
SCOPE = f"key:{ANN.key}"


def key(usd: float | None) -> KeyRow:
    return KeyRow(ANN.key * 4, ANN.owner, "mine", EDGE - 86400, "dio-abcd", monthly_budget_usd=usd)


@dataclass
class World:
    """The facts, and who knows what they come to."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(EDGE - 600))
    usage: MemoryUsage = field(default_factory=MemoryUsage)
    nodes: MemoryNodes = field(default_factory=MemoryNodes)
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    keys: MemoryKeys = field(default_factory=MemoryKeys)

    def __post_init__(self) -> None:
        self.spending = Spending(
            self.usage,
            self.nodes,
            self.limits,
            clock=self.clock,
            allowance=Allowance(),
            sizes=Sizes(),
            fresh_s=FRESH_S,
            keys=self.keys.list,
        )

    def live(self, launched_at: float) -> Node:
        """A node that is there, on Ann's account."""
        made = node(cause=ANN, launched_at=launched_at, micro_usd_per_hour=3_600_000)
        self.nodes.rows[made.id] = made
        return made

    async def spent(self, scope: str = DEPLOYMENT) -> int:
        standing = (await self.spending.budgets()).standing(scope)
        assert standing
        return standing.spent


async def test_a_node_that_lives_over_the_end_of_a_month_is_paid_by_both() -> None:
    world = World()
    world.live(EDGE - 1200)
    assert await world.spent() == 600_000_000 // 1000
    world.clock.step(600 + 300)  # five minutes into December
    assert await world.spent() == await world.spent("user:ann@example.com") == 300_000


async def test_what_was_spent_last_month_is_not_counted_for_a_moment_of_the_next() -> None:
    world = World(FakeClock(EDGE - 1))
    world.live(EDGE - 3600)
    assert await world.spent() == 3_599_000
    world.clock.step(1)
    assert world.spending.standing(await world.nodes.list()) is None  # nothing of this month is known yet
    assert await world.spent() == 0


@settings(max_examples=30)
@given(st.floats(-86400, 60), st.floats(1, 2 * 86400), st.integers(1, 60_000_000))
async def test_the_months_of_a_machine_add_up_to_its_cost(begin: float, life: float, rate: int) -> None:
    world = World(FakeClock(EDGE))
    bill = Bill("i-1", BillKind.NODE, EDGE + begin, EDGE + begin + life, rate, 360_000, model="m", cause=ANN)
    await world.usage.close(bill)
    total = 0
    for days in (-20, 0, 40):  # November, December, January
        world.clock.now = EDGE + days * 86400
        total += await world.spent()
    assert total == cost(bill)


async def test_between_two_readings_what_runs_is_carried_on() -> None:
    world = World()
    one = world.live(EDGE - 1200)
    before = await world.spent(f"user:{ANN.owner}")
    world.clock.step(FRESH_S - 1)
    after = await world.spent(f"user:{ANN.owner}")
    assert after == cost(running(one, world.clock())) > before


async def test_a_node_whose_account_is_learned_between_two_readings_counts_on_it_from_its_launch() -> None:
    """Its agent wrote its row before whoever launched it did."""
    world = World()
    world.limits.rows[SCOPE] = Limit(SCOPE, 10_000_000, 10_000_000)
    made = world.live(EDGE - 700)
    world.nodes.rows[made.id] = replace(made, cause=UNASKED)
    of_all = await world.spent()
    assert await world.spent(SCOPE) == 0
    budgets = world.spending.standing([replace(made, launch_micro_usd=360_000)])
    assert budgets
    spent = {scope: standing.spent for scope in (DEPLOYMENT, SCOPE) if (standing := budgets.standing(scope))}
    assert spent == {DEPLOYMENT: of_all + 360_000, SCOPE: of_all + 360_000}


async def test_while_a_months_many_facts_are_counted_others_go_on_and_all_is_counted() -> None:
    world = World(FakeClock(EDGE - 1))
    bills = [
        Bill(f"i-{one}", BillKind.NODE, EDGE - 86400, EDGE - 7200 * (one % 3), 1_016_001, model="m", cause=ANN)
        for one in range(12)
    ]
    tallies = [
        Tally(f"{who}@example.com", slice_name(bill.started_at + 900 * quarter), "m", "k", bill.id, 1, busy_us=10**8)
        for bill in bills
        for quarter in range(60)
        for who in ("ann", "bob")
    ]
    for bill in bills:
        await world.usage.close(bill)
    await world.usage.add(tallies, writer="w", number=1)
    turns = 0

    async def stream() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(stream())
    spent = (await world.spending.budgets()).spent
    read, turns = turns, 0
    told = await world.spending.entries(EDGE - 86400, EDGE)
    other.cancel()
    assert min(read, turns) >= len(tallies) // 100
    assert dict(spent) == spent_by_scope(entries(bills, tallies))
    assert told == entries(bills, tallies)


# -- limits


async def test_the_limit_that_a_key_carries_counts_and_the_owners_goes_before_it() -> None:
    world = World()
    world.keys.rows["x"] = key(2.5)
    assert (await world.spending.budgets()).standing(SCOPE) is not None
    standing = (await world.spending.budgets()).standing(SCOPE)
    assert standing
    assert standing.limit == Limit(SCOPE, 2_500_000, 3_000_000)
    world.limits.rows[SCOPE] = Limit(SCOPE, 1_000_000, 9_000_000)
    world.spending.forget()
    standing = (await world.spending.budgets()).standing(SCOPE)
    assert standing
    assert standing.limit == Limit(SCOPE, 1_000_000, 9_000_000)


async def test_a_key_without_a_limit_has_none_and_a_revoked_one_has_none_any_more() -> None:
    world = World()
    world.keys.rows["x"] = key(None)
    assert (await world.spending.budgets()).standing(SCOPE) is None
    world.keys.rows["x"] = key(1.0)
    world.clock.step(FRESH_S)
    assert (await world.spending.budgets()).standing(SCOPE)
    world.keys.rows.clear()
    world.clock.step(FRESH_S)
    assert (await world.spending.budgets()).standing(SCOPE) is None


@pytest.mark.parametrize("what", ["usage.bills", "usage.tallies", "nodes.list", "limits.list", "keys.list"])
async def test_what_cannot_be_read_leaves_what_was_known_of_this_month_and_nothing_of_the_next(what: str) -> None:
    world = World()
    world.keys.rows["x"] = key(2.5)
    one = world.live(EDGE - 1200)
    store, method = what.split(".")
    getattr(world, store).broken.fail(method)
    with pytest.raises(Unavailable):
        await world.spending.budgets()
    await world.spending.budgets()
    world.clock.step(FRESH_S)
    getattr(world, store).broken.fail(method)
    assert await world.spent() == cost(running(one, world.clock()))
    assert (await world.spending.budgets()).standing(SCOPE)
    world.clock.step(600)
    getattr(world, store).broken.fail(method)
    with pytest.raises(Unavailable):
        await world.spending.budgets()


async def test_what_was_being_read_when_something_changed_is_not_believed() -> None:
    world = World()
    go = asyncio.Event()
    limits = world.limits.list

    async def slow() -> Sequence[Limit]:
        found = await limits()
        await go.wait()
        return found

    world.limits.list = slow  # type: ignore[method-assign]
    reading = asyncio.create_task(world.spending.budgets())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.limits.rows[DEPLOYMENT] = Limit(DEPLOYMENT, 1, 2)
    world.spending.forget()
    go.set()
    for budgets in (await world.spending.budgets(), await world.spending.budgets()):
        standing = budgets.standing(DEPLOYMENT)
        assert standing
        assert standing.limit == Limit(DEPLOYMENT, 1, 2)
    await reading
    assert (await world.spending.budgets()).limits[DEPLOYMENT] == Limit(DEPLOYMENT, 1, 2)


async def test_many_who_ask_at_once_read_the_facts_once() -> None:
    world = World()
    world.keys.rows["x"] = replace(key(1.0), name="other")
    await asyncio.gather(*(world.spending.budgets() for _ in range(20)))
    assert world.keys.lists == 1


async def test_a_node_that_came_and_went_between_two_readings_is_counted_once_its_bill_is_closed() -> None:
    world, user = World(), f"user:{ANN.owner}"
    assert await world.spent(user) == 0
    world.clock.step(1)
    bill = running(node(cause=ANN, launched_at=world.clock() - 1, micro_usd_per_hour=3_600_000), world.clock())
    await world.usage.close(bill)
    assert await world.spent(user) == 0
    world.spending.renew()
    assert await world.spent(user) == cost(bill) > 0


async def test_where_the_facts_cannot_be_read_again_what_is_known_holds() -> None:
    world, user = World(), f"user:{ANN.owner}"
    world.live(EDGE - 1200)
    before = await world.spent(user)
    world.spending.renew()
    world.usage.broken.fail("bills")
    assert await world.spent(user) == before > 0
