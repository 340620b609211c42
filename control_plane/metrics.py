"""Numbers for CloudWatch, in its embedded metric format: a log line that is a metric as well. Pure.

Only what happens is measured, and what runs while it runs: a deployment at rest sends nothing, and pays for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from control_plane.boots import Boot
from control_plane.event import Event, EventKind
from control_plane.failures import OUTLIVED
from control_plane.nodes import STARTING, Node
from gpu_node.protocol import NodeState, Phase

NAMESPACE = "Diogenes"
DIMENSION = "Deployment"
OVERDUE_S = 600.0
"""How long a node may outlive every reason that is known for it: what is mended in time shows in no alarm."""

MAX_VALUES = 100
"""How many values of one metric CloudWatch takes from a line. Of a busier minute the first ones are told."""

Value = float | Sequence[float]
"""One number, or each of several that were measured."""

_MICRO = 1_000_000
_MINUTES = 60


class Metric(StrEnum):
    """All that is ever sent."""

    REPAIRS = "Repairs"  # by the janitor, each of which nobody else had made
    FAILED_STARTS = "FailedStarts"
    FAILED_WAKES = "FailedWakes"  # of the control plane
    BUDGETS = "BudgetsTouched"  # nearly spent, spent, overspent
    OVERDUE_NODES = "OverdueNodes"  # there, and nobody's any more
    IDLE_AWAKE = "AwakeWithoutReason"  # the control plane runs, and nothing needs it
    NODES = "Nodes"
    WAITING = "WaitingRequests"
    DOLLARS = "Dollars"  # of nodes, by the minute
    REQUESTS = "Requests"  # for inference, whatever became of them
    FAILED_REQUESTS = "FailedRequests"  # with a status of 500 or above
    FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105 - of streams
    OVERHEAD = "RelayOverhead"  # until a ready engine was asked
    START = "ColdStart"  # from launch to ready
    INSTANCE = "ColdStartInstance"  # and of it, each phase
    DRIVER = "ColdStartDriver"
    ENGINE_INSTALL = "ColdStartEngineInstall"
    WEIGHTS = "ColdStartWeights"
    LOAD = "ColdStartLoad"
    COMPILE = "ColdStartCompile"
    WARMUP = "ColdStartWarmup"


PHASES: Mapping[Phase, Metric] = {phase: Metric[phase.name] for phase in Phase}
"""How the phases of a start are called."""

TIMES = frozenset({Metric.FIRST_TOKEN, Metric.OVERHEAD, Metric.START, *PHASES.values()})
"""In seconds; the others are counts."""


_REPAIRS = frozenset(
    {
        EventKind.NODE_ADOPTED,
        EventKind.NODE_DRAINING,
        EventKind.NODE_FAILED,
        EventKind.NODE_TERMINATING,
        EventKind.LAUNCH_ABANDONED,
        EventKind.LISTENER_TURNED,
    }
)
_BUDGETS = frozenset({EventKind.BUDGET_WARNED, EventKind.BUDGET_REACHED, EventKind.BUDGET_EXCEEDED})


def of_event(event: Event, *, repairer: str = "janitor") -> Mapping[Metric, float]:
    """What an event counts as; most count as nothing."""
    if event.cause == repairer and event.kind in _REPAIRS:
        return {Metric.REPAIRS: 1}
    if event.kind is EventKind.START_FAILED:
        return {Metric.FAILED_STARTS: 1}
    if event.kind is EventKind.WAKE_FAILED:
        return {Metric.FAILED_WAKES: 1}
    return {Metric.BUDGETS: 1} if event.kind in _BUDGETS else {}


def of_minute(nodes: Iterable[Node], waiting: Mapping[str, int]) -> Mapping[Metric, float]:
    """What runs, what a minute of it costs, and who waits."""
    return {**of_nodes(nodes), Metric.WAITING: sum(waiting.values())}


def of_nodes(nodes: Iterable[Node], *, minutes: float = 1.0) -> Mapping[Metric, float]:
    """What runs, and what it costs in so many minutes."""
    there = [node for node in nodes if node.state is not NodeState.TERMINATED]
    dollars = sum(node.micro_usd_per_hour for node in there) / _MICRO / _MINUTES * minutes
    return {Metric.NODES: len(there), Metric.DOLLARS: round(dollars, 6)}


def of_start(boot: Boot) -> Mapping[Metric, Value]:
    """How long a start took, and each of its phases."""
    return {Metric.START: boot.seconds, **{PHASES[Phase(name)]: taken for name, taken in boot.phases.items()}}


def overdue(
    node: Node, now: float, *, boot_limit_s: float, drain_timeout_s: float, max_lifetime_s: float = math.inf
) -> bool:
    """Whether it should have been gone, or ready, for so long that somebody must look.

    Its own word is no reason: an agent that goes on speaking is what a node that nobody takes down looks like.
    """
    lifetime_ends = node.launched_at + max_lifetime_s
    if node.state in STARTING:
        due = node.launched_at + boot_limit_s
    elif node.state is NodeState.DRAINING:
        due = max(node.draining_since, node.launched_at) + drain_timeout_s
        if node.reason == OUTLIVED:  # it was replaced in good time, and may serve until then
            due = max(due, lifetime_ends)
    elif node.state is NodeState.FAILED:  # nobody has renewed its lease since
        due = node.lease_until + drain_timeout_s
    else:
        due = min(node.lease_until, lifetime_ends)
    return now > due + OVERDUE_S


def embedded(deployment: str, values: Mapping[Metric, Value], at: float) -> Mapping[str, object]:
    """Members of a log line from which CloudWatch takes these values."""
    metrics = [{"Name": str(name), "Unit": "Seconds" if name in TIMES else "Count"} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}
    told = {"_aws": {"Timestamp": int(at * 1000), "CloudWatchMetrics": [directive]}, DIMENSION: deployment}
    return {**told, **{str(name): value for name, value in values.items()}}
