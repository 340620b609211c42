"""Should this node still exist? Pure.

The last of three guards against a forgotten GPU, and the only one that works with nobody else alive: a node that is
not told to live on takes itself down.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_node.protocol import DRAIN_HOOK_S, LONGEST_LEASE_S, NodeState, Orders


class Lease:
    """How long the node may live on, by its own clock.

    Only a lease that is news moves the end, and no lease reaches further than ``LONGEST_LEASE_S`` from when it was
    first read: where control plane and node disagree on the time, a control plane that fell silent is still noticed.
    """

    def __init__(self) -> None:
        self._until: float | None = None  # as the row has it
        self.ends_at: float | None = None  # None: none was ever read

    def read(self, until: float, now: float) -> None:
        if until != self._until:
            self._until = until
            self.ends_at = min(until, now + LONGEST_LEASE_S)


@dataclass(frozen=True)
class LeasePolicy:
    """How long a node lives on without being told to. Seconds."""

    grace_s: float = 5.0  # past the end of a lease: clocks differ, and a renewal may be on its way
    busy_limit_s: float = 600.0  # past that, for requests that still run
    blind_limit_s: float = 600.0  # with the table unreadable; twice this while requests run
    notice_s: float = 60.0  # that a control plane gets to see that the node leaves, before the node is gone
    drain_limit_s: float = DRAIN_HOOK_S - 60.0  # for requests that still run then; soon after, AWS ends the machine
    max_lifetime_s: float = 86400.0  # from the machine's launch to its end, whatever anybody says

    @property
    def last_drain_s(self) -> float:
        """How long before the end of its lifetime a node begins to drain."""
        return min(self.drain_limit_s, self.max_lifetime_s / 4)


@dataclass(frozen=True)
class Departure:
    """Why the node has to go, though its engine and its lease are well."""

    reason: str
    since: float  # when the node learned of it


@dataclass(frozen=True)
class Situation:
    """What the agent knows when it asks. All times by its own steady clock."""

    started_at: float  # of the agent
    launched_at: float  # of the machine
    busy: bool  # the engine has requests running or waiting
    orders: Orders | None = None  # as last read; None before the first time
    lease_ends_at: float | None = None
    read_at: float | None = None  # when the orders were read
    departure: Departure | None = None


@dataclass(frozen=True)
class Stay:
    pass


@dataclass(frozen=True)
class Drain:
    """Out of routing; requests that run may end."""

    reason: str


@dataclass(frozen=True)
class Halt:
    reason: str


Verdict = Stay | Drain | Halt


def decide(situation: Situation, now: float, policy: LeasePolicy) -> Verdict:
    """The first rule that applies:

    1. The control plane holds the node for failed or terminated: halt.
    2. The lease has run out and the engine is idle: halt.
    3. The lease has run out `busy_limit_s` ago: halt, whatever still runs.
    4. The table could not be read for `blind_limit_s` and the engine is idle: halt.
    5. The table could not be read for twice `blind_limit_s`: halt, whatever still runs.
    6. It has a reason to depart, nobody has cared for `notice_s`, and the engine is idle: halt.
    7. It has that reason since `drain_limit_s`: halt, whatever still runs.
    8. Its lifetime is over: halt, whatever still runs.
    9. It has a reason to depart, or its lifetime ends soon: drain.
    10. Stay. Draining is no reason of its own: the control plane takes the node down when its last request ends.

    With everything else unchanged, a Halt never turns into less as time goes by.
    """
    rules = (_by_orders, _by_silence, _by_departure, _by_age)
    verdicts = [verdict for rule in rules if (verdict := rule(situation, now, policy))]
    halts = [verdict for verdict in verdicts if isinstance(verdict, Halt)]
    return next(iter(halts or verdicts), Stay())  # 10


def _by_orders(situation: Situation, now: float, policy: LeasePolicy) -> Verdict | None:
    if situation.orders is not None and situation.orders.state in (NodeState.FAILED, NodeState.TERMINATED):  # 1
        return Halt(f"the control plane holds this node for {situation.orders.state}")
    if situation.lease_ends_at is None:
        return None
    overdue_s = now - situation.lease_ends_at - policy.grace_s
    if overdue_s >= 0 and not situation.busy:  # 2
        return Halt("the lease has run out")
    if overdue_s >= policy.busy_limit_s:  # 3
        return Halt("the lease ran out long ago, requests still run")
    return None


def _by_silence(situation: Situation, now: float, policy: LeasePolicy) -> Verdict | None:
    last_sight = situation.started_at if situation.read_at is None else situation.read_at
    blind_s = now - last_sight
    if blind_s >= policy.blind_limit_s and not situation.busy:  # 4
        return Halt("the table cannot be read")
    if blind_s >= 2 * policy.blind_limit_s:  # 5
        return Halt("the table cannot be read, requests still run")
    return None


def _by_departure(situation: Situation, now: float, policy: LeasePolicy) -> Verdict | None:
    departure = situation.departure
    if departure is None:
        return None
    if now - departure.since >= policy.notice_s and not situation.busy:  # 6
        return Halt(departure.reason)
    if now - departure.since >= policy.drain_limit_s:  # 7
        return Halt(f"{departure.reason}, requests still run")
    return Drain(departure.reason)  # 9


def _by_age(situation: Situation, now: float, policy: LeasePolicy) -> Verdict | None:
    left_s = situation.launched_at + policy.max_lifetime_s - now
    if left_s <= 0:  # 8
        return Halt("its lifetime is over")
    return Drain("its lifetime is nearly over") if left_s <= policy.last_drain_s else None  # 9
