"""Should this node still exist? Pure.

The last of three guards against a forgotten GPU, and the only one that works with nobody else alive: a node that is
not told to live on takes itself down.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_node.protocol import NodeState, Orders


@dataclass(frozen=True)
class LeasePolicy:
    """How long a node lives on without being told to. Seconds."""

    grace_s: float = 5.0  # past the end of a lease: clocks differ, and a renewal may be on its way
    busy_limit_s: float = 600.0  # past that, for requests that still run
    blind_limit_s: float = 600.0  # with the table unreadable; twice this while requests run


@dataclass(frozen=True)
class Situation:
    """What the agent knows when it asks."""

    started_at: float  # of the agent
    busy: bool  # the engine has requests running or waiting
    orders: Orders | None = None  # as last read; None before the first time
    read_at: float | None = None  # when that was


@dataclass(frozen=True)
class Stay:
    pass


@dataclass(frozen=True)
class Halt:
    reason: str


def decide(situation: Situation, now: float, policy: LeasePolicy) -> Stay | Halt:
    """The first rule that applies:

    1. The control plane holds the node for failed or terminated: halt.
    2. The lease has run out and the engine is idle: halt.
    3. The lease has run out `busy_limit_s` ago: halt, whatever still runs.
    4. The table could not be read for `blind_limit_s` and the engine is idle: halt.
    5. The table could not be read for twice `blind_limit_s`: halt, whatever still runs.
    6. Stay. Draining is no reason of its own: the control plane takes the node down when its last request ends.

    With everything else unchanged, a Halt never turns into a Stay as time goes by.
    """
    return _by_orders(situation, now, policy) or _by_silence(situation, now, policy) or Stay()  # 6


def _by_orders(situation: Situation, now: float, policy: LeasePolicy) -> Halt | None:
    orders = situation.orders
    if orders is None:
        return None
    if orders.state in (NodeState.FAILED, NodeState.TERMINATED):  # 1
        return Halt(f"the control plane holds this node for {orders.state}")
    overdue_s = now - orders.lease_until - policy.grace_s
    if overdue_s >= 0 and not situation.busy:  # 2
        return Halt("the lease has run out")
    if overdue_s >= policy.busy_limit_s:  # 3
        return Halt("the lease ran out long ago, requests still run")
    return None


def _by_silence(situation: Situation, now: float, policy: LeasePolicy) -> Halt | None:
    last_sight = situation.started_at if situation.read_at is None else situation.read_at
    blind_s = now - last_sight
    if blind_s >= policy.blind_limit_s and not situation.busy:  # 4
        return Halt("the table cannot be read")
    if blind_s >= 2 * policy.blind_limit_s:  # 5
        return Halt("the table cannot be read, requests still run")
    return None
