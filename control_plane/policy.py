"""How patient to be with nodes and models, and how long a failure keeps a model from being tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from control_plane.failures import BY_HAND
from control_plane.nodes import Node
from control_plane.ports import ModelRow
from control_plane.rates import Sizes
from gpu_node.protocol import DRAIN_HOOK_S, Failure

FAILURES_IN_A_ROW = 2  # so many failed starts stop further tries until somebody asks again
MISHAPS_IN_A_ROW = 5  # the same, where none of them was the model's own fault
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
    last_words_s: float = 8.0  # that an agent gets to tell why its engine died; vLLM itself takes up to 4 to be gone
    cancel_grace_s: float = 120.0
    failure_memory_s: float = 90.0
    launch_limit_s: float = 60.0
    scale_out_s: float = 30.0
    scale_in_s: float = 300.0
    sizes: Sizes = field(default_factory=Sizes)  # what machines are, for their price


def standing_failure(history: ModelRow | None, now: float, policy: Policy) -> Failure | None:
    """What still keeps this model from being started, if anything does.

    A first permanent failure stands for the failure memory. A first start that failed for a passing reason does not
    stand, it is tried again at once. From the second in a row on, nothing is tried until the configuration changes or
    somebody asks by hand: each try would buy a GPU to learn the same. Only where a mishap kept it from starting, which
    another machine may be spared, a second one stands for the memory, a third four times as long and so on, and it
    takes more of them until a person has to look. Where no failure stands, a refused launch does, for the memory.
    """
    stands = _standing(history, now, policy)
    return stands[0] if stands else None


def stands_until(history: ModelRow | None, now: float, policy: Policy) -> tuple[float, float | None]:
    """Since when what stands does, and until when; None when only a person, or another configuration, ends it."""
    stands = _standing(history, now, policy)
    return stands[1:] if stands else (0.0, now)


def _standing(history: ModelRow | None, now: float, policy: Policy) -> tuple[Failure, float, float | None] | None:
    if history is None:
        return None
    again_at = _next_start_at(history, policy)
    if history.failure and (again_at is None or now < again_at):
        return _told(history.failure, history.failures, again_at, now), history.failed_at, again_at
    again_at = history.refused_at + policy.failure_memory_s
    if history.refusal and now < again_at:
        return history.refusal, history.refused_at, again_at
    return None


def _told(failure: Failure, in_a_row: int, again_at: float | None, now: float) -> Failure:
    if again_at is None:
        told = f"{failure.fix} It failed {in_a_row} times in a row: {BY_HAND}".strip()
        return replace(failure, fix=told, permanent=True)
    if in_a_row < FAILURES_IN_A_ROW:
        return failure
    left_s = again_at - now
    return replace(failure, fix=f"It failed {in_a_row} times in a row: the next try is possible in {left_s:.0f} s.")


def _next_start_at(history: ModelRow, policy: Policy) -> float | None:
    """When the failures in a row are no reason any more not to try; None when only a person ends it."""
    failure, in_a_row = history.failure, history.failures
    if failure is None or (in_a_row < FAILURES_IN_A_ROW and not failure.permanent):
        return history.failed_at
    patience = MISHAPS_IN_A_ROW if failure.code in _MISHAPS and not failure.permanent else FAILURES_IN_A_ROW
    if in_a_row >= patience:
        return None
    memories = float(4 ** max(0, in_a_row - FAILURES_IN_A_ROW))
    return history.failed_at + min(policy.failure_memory_s * memories, MAX_BACKOFF_S)


def replaced_from(node: Node, lifetime_s: float, policy: Policy) -> float:
    """From when on a node is too old to be counted on: early enough that another can start and take its place, before
    it begins to drain by itself."""
    ahead_s = policy.boot_limit_s + policy.drain_timeout_s + LAST_DRAIN_S
    return node.launched_at + lifetime_s - min(ahead_s, lifetime_s / 2)
