"""How patient to be with nodes and models, and how long a failure keeps a model from being tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from control_plane.failures import BY_HAND
from control_plane.ports import ModelRow
from control_plane.rates import Sizes
from gpu_node.protocol import Failure

FAILURES_IN_A_ROW = 2  # so many failed starts stop further tries until somebody asks again
MAX_BACKOFF_S = 3600.0


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
    start that failed for a passing reason does not stand, it is tried again at once; from the second in a row on it
    stands for the memory, then four times as long, and so on. From the second permanent one on, nothing is tried
    until the configuration changes or somebody asks by hand: each try would buy a GPU to learn the same.
    """
    if history is None or history.failure is None:
        return None
    failure, in_a_row = history.failure, history.failures
    if in_a_row >= FAILURES_IN_A_ROW and failure.permanent:
        return replace(failure, fix=f"{failure.fix} It failed {in_a_row} times in a row: {BY_HAND}".strip())
    if in_a_row == 1 and not failure.permanent:
        return None
    stands_s = min(policy.failure_memory_s * 4 ** max(0, in_a_row - FAILURES_IN_A_ROW), MAX_BACKOFF_S)
    if now >= history.failed_at + stands_s:
        return None
    if in_a_row < FAILURES_IN_A_ROW:
        return failure
    left_s = history.failed_at + stands_s - now
    return replace(failure, fix=f"It failed {in_a_row} times in a row: the next try is possible in {left_s:.0f} s.")
