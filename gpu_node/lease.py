"""Should this node still exist? Pure.

The last of three guards against a forgotten GPU, and the only one that works with nobody else alive: a node that is
not told to live on takes itself down.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_node.protocol import DRAIN_HOOK_S, NodeState, Orders


@dataclass(frozen=True)
class LeasePolicy:
    """How long a node lives on without being told to. Seconds."""

    grace_s: float = 5.0  # past the end of a lease: clocks differ, and a renewal may be on its way
    busy_limit_s: float = 600.0  # past that, for requests that still run
    blind_limit_s: float = 600.0  # with the table unreadable; twice this while requests run
    notice_s: float = 60.0  # that a control plane gets to see that the node's group takes it down
    drain_limit_s: float = DRAIN_HOOK_S - 60.0  # for requests that still run then; soon after, AWS ends the machine


@dataclass(frozen=True)
class Situation:
    """What the agent knows when it asks."""

    started_at: float  # of the agent
    busy: bool  # the engine has requests running or waiting
    orders: Orders | None = None  # as last read; None before the first time
    read_at: float | None = None  # when that was
    taken_down_at: float | None = None  # when the node learned that its group takes it down


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
    6. The node's group takes it down, nobody has cared for `notice_s`, and the engine is idle: halt.
    7. The node's group takes it down since `drain_limit_s`: halt, whatever still runs.
    8. Stay. Draining is no reason of its own: the control plane takes the node down when its last request ends.

    With everything else unchanged, a Halt never turns into a Stay as time goes by.
    """
    rules = (_by_orders, _by_silence, _by_group)
    return next((verdict for rule in rules if (verdict := rule(situation, now, policy))), Stay())  # 8


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


def _by_group(situation: Situation, now: float, policy: LeasePolicy) -> Halt | None:
    if situation.taken_down_at is None:
        return None
    since_s = now - situation.taken_down_at
    if since_s >= policy.notice_s and not situation.busy:  # 6
        return Halt("the group takes this node down")
    if since_s >= policy.drain_limit_s:  # 7
        return Halt("the group takes this node down, requests still run")
    return None
