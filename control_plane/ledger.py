"""From facts to dollars: what every machine cost, and whose account it is on. Pure, and exact to the micro-dollar.

The facts are bills (a machine from its launch to its end, at a rate) and tallies (who used how much of a node's time
in a quarter of an hour). Nothing is ever settled: what is asked for is computed from the facts, so a fact written
twice, late, or by a successor after a crash cannot count twice, and every sum is the sum of the same parts.

 1. A machine costs, up to any moment, its rate times its milliseconds until then, rounded down, and once its launch.
    A quarter of an hour costs the difference of two such sums: the quarters of a machine add up to its cost.
 2. In each quarter the time in use is paid by the users, by their shares; the rest (boot, idle, drain) by the cause.
 3. A share is made of whole micro-dollars by the largest remainder: the shares of a quarter add up to its cost.
 4. The control plane's task is used by everybody who uses a node.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from typing_extensions import TypedDict

from control_plane.books import Bill, BillKind, Tally
from control_plane.budget import scopes
from control_plane.nodes import Cause, Node
from control_plane.rates import MICRO
from control_plane.usage import SLICE_S, slice_start

CONTROL_PLANE = "(control plane)"
"""What stands for a model where the control plane's own task is paid for."""

_SLICE_MS = SLICE_S * 1000
_HOUR_MS = 3_600_000


class Account(NamedTuple):
    """Who pays for what."""

    owner: str
    key: str
    model: str
    speculative: bool = False  # a start that nobody has asked anything yet


class Entry(NamedTuple):
    """One account in one quarter of an hour; ``at`` is its beginning, Unix seconds."""

    at: int
    account: Account
    micro_usd: int = 0
    gpu_ms: int = 0  # of a node's life
    busy_ms: int = 0  # of those, in use
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


def entries(bills: Iterable[Bill], tallies: Sequence[Tally]) -> Sequence[Entry]:
    """Everything that is known, attributed; one entry an account and quarter, in the order of time."""
    uses, sums = Uses(), Sums()
    uses.take(tallies)
    sums.take(map(asked, tallies))
    for bill in merged(bills):
        sums.take(parts(bill, uses))
    return sums.entries()


def cost(bill: Bill) -> int:
    """Micro-dollars, all of it."""
    begin, end = bill.paid_ms
    return _cost_until(bill, end - begin)


def running(node: Node, now: float) -> Bill:
    """The bill of a node that is there, as far as it has come."""
    return Bill(
        id=node.id,
        kind=BillKind.NODE,
        started_at=node.launched_at,
        ended_at=max(now, node.launched_at),
        micro_usd_per_hour=node.micro_usd_per_hour,
        launch_micro_usd=node.launch_micro_usd,
        model=node.model,
        instance_type=node.instance_type,
        market=node.market,
        zone=node.zone,
        cause=node.cause,
    )


class RunEntry(TypedDict):
    """What runs now, as the API tells it."""

    started: float  # Unix seconds
    usd_per_h: float
    micro_usd: int  # so far


def run_dict(bills: Sequence[Bill]) -> RunEntry | None:
    """None where nothing runs."""
    if not bills:
        return None
    return {
        "started": min(bill.started_at for bill in bills),
        "usd_per_h": sum(bill.micro_usd_per_hour for bill in bills) / MICRO,
        "micro_usd": sum(map(cost, bills)),
    }


def merged(bills: Iterable[Bill]) -> Sequence[Bill]:
    """Each machine once: what the cloud verified before what we believe, the longer before the shorter."""
    best: dict[str, Bill] = {}
    for bill in bills:
        known = best.get(bill.id)
        if known is None or (bill.verified, bill.ended_at) > (known.verified, known.ended_at):
            best[bill.id] = bill
    return list(best.values())


def apportion(total: int, weights: Mapping[Account, int]) -> Mapping[Account, int]:
    """A whole number in shares of whole numbers that add up to it, by the largest remainder; ties by name."""
    if len(weights) == 1:
        return dict.fromkeys(weights, total)
    whole = sum(weights.values())
    shares = {account: total * weight // whole for account, weight in weights.items()}
    left = total - sum(shares.values())
    by_remainder = sorted(weights, key=lambda account: (-(total * weights[account] % whole), account))
    for account in by_remainder[:left]:
        shares[account] += 1
    return shares


def add(left: Entry, right: Entry) -> Entry:
    """Both together, on the account and at the time of the first."""
    return Entry(left.at, left.account, *map(operator.add, left[2:], right[2:]))


MEASURES = Entry._fields[2:]
"""What of an entry adds up."""


class Sums:
    """Entries, added up to one an account and quarter."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, Account], Entry] = {}

    def take(self, found: Iterable[Entry]) -> None:
        for entry in found:
            known = self._sums.get(entry[:2])
            self._sums[entry[:2]] = add(known, entry) if known else entry

    def entries(self) -> Sequence[Entry]:
        """In the order of time."""
        return [self._sums[place] for place in sorted(self._sums)]


class Uses:
    """Microseconds in use by account, for each node and quarter; and for each quarter of all nodes together."""

    def __init__(self) -> None:
        self._of_node: dict[tuple[str, int], dict[Account, int]] = defaultdict(dict)
        self._of_all: dict[int, dict[Account, int]] = defaultdict(dict)

    def take(self, tallies: Iterable[Tally]) -> None:
        for tally in tallies:
            if tally.busy_us:
                at = slice_start(tally.slice)
                _count(self._of_node[tally.node, at], Account(tally.owner, tally.key, tally.model), tally.busy_us)
                _count(self._of_all[at], Account(tally.owner, tally.key, CONTROL_PLANE), tally.busy_us)

    def of(self, bill: Bill, at: int) -> Mapping[Account, int]:
        if bill.kind is BillKind.TASK:
            return self._of_all.get(at, {})
        return self._of_node.get((bill.id, at), {})


def _count(shares: dict[Account, int], account: Account, busy_us: int) -> None:
    shares[account] = shares.get(account, 0) + busy_us


def asked(tally: Tally) -> Entry:
    """What was asked and answered; it costs nothing by itself."""
    return Entry(
        slice_start(tally.slice),
        Account(tally.owner, tally.key, tally.model),
        requests=tally.requests,
        prompt_tokens=tally.prompt_tokens,
        cached_tokens=tally.cached_tokens,
        completion_tokens=tally.completion_tokens,
        reasoning_tokens=tally.reasoning_tokens,
    )


def parts(bill: Bill, uses: Uses) -> Iterator[Entry]:
    """What a machine cost, by quarter and account."""
    begin, end = bill.paid_ms
    for at in range(begin // _SLICE_MS * SLICE_S, -(-end // 1000), SLICE_S):
        since, until = max(begin, at * 1000), min(end, at * 1000 + _SLICE_MS)
        spent = _cost_until(bill, until - begin) - (_cost_until(bill, since - begin) if since > begin else 0)
        uses_here = uses.of(bill, at)
        lived_ms = until - since if bill.kind is BillKind.NODE else 0
        if not uses_here:
            yield Entry(at, _payer(bill), micro_usd=spent, gpu_ms=lived_ms)
            continue
        weights, busy_ms = _weights(bill, uses_here, until - since)
        micro_usd, gpu_ms = apportion(spent, weights), apportion(lived_ms, weights)
        in_use = apportion(busy_ms, uses_here) if lived_ms else {}
        for account in weights:
            yield Entry(
                at, account, micro_usd=micro_usd[account], gpu_ms=gpu_ms[account], busy_ms=in_use.get(account, 0)
            )


def _weights(bill: Bill, uses: Mapping[Account, int], lived_ms: int) -> tuple[Mapping[Account, int], int]:
    """Shares of a quarter, and how much of it was in use. More than its length was in use where two tasks counted."""
    busy_us = sum(uses.values())
    idle_us = max(lived_ms * 1000 - busy_us, 0)
    weights = dict(uses)
    if idle_us:
        payer = _payer(bill)
        weights[payer] = weights.get(payer, 0) + idle_us
    return weights, min(busy_us // 1000, lived_ms)


def _payer(bill: Bill) -> Account:
    """Of what nobody uses."""
    return Account(bill.cause.owner, bill.cause.key, bill.model or CONTROL_PLANE, bill.cause.speculative)


def _cost_until(bill: Bill, life_ms: int) -> int:
    return bill.launch_micro_usd + bill.micro_usd_per_hour * life_ms // _HOUR_MS


def spent_by_scope(found: Iterable[Entry]) -> Mapping[str, int]:
    """Micro-dollars by the scopes that a budget may be for."""
    by_account: dict[Account, int] = defaultdict(int)  # of which there are few, however many quarters
    for entry in found:
        by_account[entry.account] += entry.micro_usd
    spent: dict[str, int] = defaultdict(int)
    for account, micro_usd in by_account.items():
        for scope in scopes(Cause(account.owner, account.key, account.speculative)):
            spent[scope] += micro_usd
    return spent
