"""The month's spend, read from the facts every now and then and carried on by what runs in between."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from control_plane.books import Bill, Limit, LimitStore, Tally, UsageStore
from control_plane.budget import Allowance, Budgets, scopes, start_cost
from control_plane.errors import StartFailed, Unavailable
from control_plane.ledger import Entry, Sums, Uses, asked, cost, merged, parts, running, spent_by_scope
from control_plane.model import Model
from control_plane.nodes import THERE, Cause, Node, NodeId
from control_plane.ports import Clock, KeyRow, NodeStore
from control_plane.rates import Sizes, node_rate
from control_plane.usage import month_of

QUICK_S = 1.0
"""How old the budgets may be that a request is checked against."""

PIECE = 200
"""Of a month's many facts, so many are counted at a time: in between, streams go on."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Reading:
    at: float
    month: str
    spent: Mapping[str, int]  # by scope
    nodes: Mapping[str, tuple[int, Cause]]  # what each node that ran had cost by then, and on whose account
    limits: Mapping[str, Limit]


class Spending:
    """Knows what the month has cost, for whoever must decide on it. Raises Unavailable while it knows nothing."""

    def __init__(
        self,
        usage: UsageStore,
        nodes: NodeStore,
        limits: LimitStore | None,
        *,
        clock: Clock,
        allowance: Allowance,
        sizes: Sizes,
        fresh_s: float,
        keys: Callable[[], Awaitable[Sequence[KeyRow]]] | None = None,
        users: Callable[[], Mapping[NodeId, frozenset[Cause]]] = dict,
    ) -> None:
        """``fresh_s`` is how old a reading of the facts may be; what runs is counted to the moment all the same.
        ``keys`` tells all of them, for the limits that they carry; None: only the door knows those. ``users`` tells
        who uses which node right now."""
        self.users = users
        self._keys = keys
        self._usage = usage
        self._nodes = nodes
        self._limits = limits
        self._clock = clock
        self.allowance = allowance
        self.sizes = sizes
        self._fresh_s = fresh_s
        self._reading: _Reading | None = None
        self._living: Sequence[Node] = ()
        self._asking: asyncio.Future[_Reading] | None = None
        self._quick: tuple[float, Budgets] = (float("-inf"), Budgets())

    async def check(
        self, cause: Cause, model: Model, *, usual_start_s: float | None = None, key_monthly_usd: float | None = None
    ) -> None:
        """Raises StartFailed where this account's budget, or the deployment's, forbids what is asked for.

        What runs, or starts already, may be used up to the hard cap; a start must fit below the limit.
        """
        at, budgets = self._quick
        if not at <= self._clock() < at + QUICK_S:
            budgets = await self.budgets()
            self._quick = self._clock(), budgets
        budgets = budgets.with_key(cause.key, key_monthly_usd)
        failure = budgets.use_refused(cause)
        if failure is None and not any(node.model == model.name and node.state in THERE for node in self._living):
            failure = budgets.start_refused(cause, start_cost(model, usual_start_s, self.sizes))
        if failure:
            raise StartFailed(failure)

    async def budgets(self) -> Budgets:
        """As they stand at this moment."""
        return self._carried_on(await self.refresh())

    async def refresh(self) -> _Reading:
        """Read the facts again where the last reading is old."""
        now = self._clock()
        reading = self._reading
        if reading is None or now >= reading.at + self._fresh_s or reading.month != month_of(now):
            return await self._read_again(reading, now)
        return reading

    def standing(self, nodes: Sequence[Node]) -> Budgets | None:
        """As they stand at this moment, with these nodes alive; None while nothing was read of this month."""
        self._living = nodes
        reading = self._reading
        return self._carried_on(reading) if reading and reading.month == month_of(self._clock()) else None

    def _carried_on(self, reading: _Reading) -> Budgets:
        base = Budgets(self.allowance, reading.limits, reading.spent)
        return base.with_spent(self._since(reading, self._clock()))

    def renew(self) -> None:
        """A node's bill was closed: one that came and went since the last reading is in neither that nor the living, so
        the facts are read again before they are next used. Where they cannot be, what is known holds."""
        if self._reading:
            self._reading = replace(self._reading, at=float("-inf"))

    def forget(self) -> None:
        """Something changed that must be seen at once: what is known, and what is being read, is of before."""
        self._reading = self._asking = None
        self._quick = (float("-inf"), Budgets())

    async def entries(self, since: float, until: float) -> Sequence[Entry]:
        """Everything attributed from one moment to another, each in its quarter of an hour. Raises Unavailable."""
        months = _months(since, until)
        living = await self._nodes.list()
        found = await asyncio.gather(*(self._usage.bills(month) for month in months))
        used = await asyncio.gather(*(self._usage.tallies(month) for month in months))
        bills = [*self._running(living), *(bill for month in found for bill in month)]
        tallies = [tally for month in used for tally in month]
        uses, sums = await _uses(tallies), Sums()
        every = itertools.chain(map(asked, tallies), _every_part(bills, uses))
        async for piece in _pieces(entry for entry in every if since <= entry.at < until):
            sums.take(piece)
        return sums.entries()

    def bill(self, node: Node) -> Bill:
        """Of a node that is there, as far as it has come."""
        if not node.micro_usd_per_hour:
            rate = node_rate(node.instance_type, self.sizes)
            node = replace(node, micro_usd_per_hour=rate.per_hour, launch_micro_usd=rate.at_launch)
        return running(node, self._clock())

    async def _read_again(self, known: _Reading | None, now: float) -> _Reading:
        """Once, however many ask. What was known of this month holds while the facts cannot be read."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._read())
            self._asking.add_done_callback(self._read_done)
        try:
            return await asyncio.shield(self._asking)
        except Unavailable:
            if known is None or known.month != month_of(now):
                raise
            return known

    def _read_done(self, asked: asyncio.Future[_Reading]) -> None:
        error = None if asked.cancelled() else asked.exception()  # whoever asked is told
        if asked is not self._asking:
            return  # forgotten meanwhile
        self._asking = None
        if error is None and not asked.cancelled():
            self._reading = asked.result()

    async def _read(self) -> _Reading:
        now = self._clock()
        month = month_of(now)
        # The living first: one that ends meanwhile is then counted by its bill, and at worst by both, once.
        living = await self._nodes.list()
        bills, tallies = await asyncio.gather(self._usage.bills(month), self._usage.tallies(month))
        limits = [*await self._of_keys(), *(await self._limits.list() if self._limits else ())]  # the owner's go last
        runs = self._running(living)
        spent = await _spent([*runs, *bills], tallies, month)
        self._living = living
        return _Reading(
            now,
            month,
            spent,
            {bill.id: (cost(bill), bill.cause) for bill in runs},
            {limit.scope: limit for limit in limits},
        )

    async def _of_keys(self) -> Sequence[Limit]:
        rows = await self._keys() if self._keys else ()
        return [self.allowance.of(f"key:{row.id}", row.monthly_budget_usd) for row in rows if row.monthly_budget_usd]

    def _running(self, nodes: Iterable[Node]) -> Sequence[Bill]:
        return merged(self.bill(node) for node in nodes)

    def _since(self, reading: _Reading, now: float) -> Mapping[str, int]:
        """What living nodes have cost since then; until the facts are read again, on account of their cause. One that
        was nobody's when they were read, for its agent wrote its row first, counts on that account from its launch."""
        more: dict[str, int] = defaultdict(int)
        for node in self._living:
            whole = cost(self.bill(node))
            known, cause = reading.nodes.get(node.id, (0, node.cause))
            told = scopes(cause)
            for scope in scopes(node.cause):
                more[scope] += max(whole - known if scope in told else whole, 0)
        return more


async def _spent(bills: Iterable[Bill], tallies: Sequence[Tally], month: str) -> Mapping[str, int]:
    """Micro-dollars by scope."""
    every, spent = _every_part(bills, await _uses(tallies)), Counter[str]()
    async for piece in _pieces(part for part in every if month_of(part.at) == month):
        spent.update(spent_by_scope(piece))
    return spent


async def _uses(tallies: Sequence[Tally]) -> Uses:
    uses = Uses()
    async for piece in _pieces(tallies):
        uses.take(piece)
    return uses


def _every_part(bills: Iterable[Bill], uses: Uses) -> Iterator[Entry]:
    return (part for bill in merged(bills) for part in parts(bill, uses))


async def _pieces(whole: Iterable[T]) -> AsyncIterator[Sequence[T]]:
    rest = iter(whole)
    while piece := list(itertools.islice(rest, PIECE)):
        yield piece
        if len(piece) == PIECE:
            await asyncio.sleep(0)


def _months(since: float, until: float) -> Sequence[str]:
    """The months of UTC that a span touches."""
    months, at = [], datetime.fromtimestamp(since, UTC)
    while at.timestamp() < until:
        months.append(at.strftime("%Y-%m"))
        at = (at.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return months
