"""How patient to be with nodes and models, and how long a failure keeps a model from being tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from control_plane.failures import BY_HAND, CRASH_LOOP
from control_plane.nodes import Node
from control_plane.ports import ModelRow
from control_plane.rates import Sizes
from gpu_node.protocol import DRAIN_HOOK_S, Failure

FAILURES_IN_A_ROW = 2  # so many failed starts stop further tries until somebody asks again
MAX_BACKOFF_S = 3600.0
LAST_DRAIN_S = DRAIN_HOOK_S  # a node drains by itself so long before its lifetime ends, or a little less

# Not the start itself failed, but the machine, or the way to what it needs: another machine may well succeed.
_MISHAPS = frozenset(
    {
        "node_lost",
        "node_silent",
        "node_never_spoke",
        "hub_unreachable",
        "weights_unavailable",
        "weights_corrupt",
        "engine_not_installed",
        CRASH_LOOP,
    }
)


@dataclass(frozen=True)
class Policy:
    """How patient to be; seconds."""

    lease_s: float = 300.0
    drain_timeout_s: float = 300.0
    boot_limit_s: float = 1200.0
    claim_limit_s: float = 300.0
    silent_node_s: float = 90.0
    cancel_grace_s: float = 120.0
    failure_memory_s: float = 90.0
    launch_limit_s: float = 60.0
    scale_out_s: float = 30.0
    scale_in_s: float = 300.0
    sizes: Sizes = field(default_factory=Sizes)  # what machines are, for their price


def standing_failure(history: ModelRow | None, now: float, policy: Policy) -> Failure | None:
    """The failure that still keeps this model from being started, if one does.

    A refused launch (it counts no failed start) and a first permanent failure stand for the failure memory. A first
    start that failed for a passing reason does not stand, it is tried again at once. From the second in a row on,
    nothing is tried until the configuration changes or somebody asks by hand: each try would buy a GPU to learn the
    same. Only where a mishap kept it from starting, a second one stands for the memory, a third four times as long, and
    so on.
    """
    if history is None or history.failure is None:
        return None
    failure, in_a_row = history.failure, history.failures
    if in_a_row == 1 and not failure.permanent:
        return None
    again_at = next_try_at(history, policy)
    if again_at is None:
        told = f"{failure.fix} It failed {in_a_row} times in a row: {BY_HAND}".strip()
        return replace(failure, fix=told, permanent=True)
    if now >= again_at:
        return None
    if in_a_row < FAILURES_IN_A_ROW:
        return failure
    left_s = again_at - now
    return replace(failure, fix=f"It failed {in_a_row} times in a row: the next try is possible in {left_s:.0f} s.")


def next_try_at(history: ModelRow, policy: Policy) -> float | None:
    """When a failure that stands is over; None when only a person, or another configuration, ends it."""
    failure, in_a_row = history.failure, history.failures
    if failure and in_a_row >= FAILURES_IN_A_ROW and (failure.permanent or failure.code not in _MISHAPS):
        return None
    memories = float(4 ** max(0, in_a_row - FAILURES_IN_A_ROW))
    return history.failed_at + min(policy.failure_memory_s * memories, MAX_BACKOFF_S)


def replaced_from(node: Node, lifetime_s: float, policy: Policy) -> float:
    """From when on a node is too old to be counted on: early enough that another can start and take its place, before
    it begins to drain by itself."""
    ahead_s = policy.boot_limit_s + policy.drain_timeout_s + LAST_DRAIN_S
    return node.launched_at + lifetime_s - min(ahead_s, lifetime_s / 2)
