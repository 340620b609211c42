"""What is measured of what happens and of what runs, and that the line is one that CloudWatch reads."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from control_plane.event import Event, EventKind
from control_plane.event_log import EventLog
from control_plane.failures import OUTLIVED
from control_plane.logs import JsonFormatter
from control_plane.metrics import OVERDUE_S, Metric, embedded, of_event, of_minute, overdue
from control_plane.nodes import Node, NodeId
from gpu_node.protocol import NodeState
from tests.memory import FakeClock

NODE = Node(
    NodeId("i-1"), "m", NodeState.READY, "g", "a", "g5.xlarge", "on-demand", 1000.0, 1300.0, heartbeat_at=1290.0
)


@pytest.mark.parametrize(
    ("kind", "cause", "metric"),
    [
        (EventKind.NODE_ADOPTED, "janitor", Metric.REPAIRS),
        (EventKind.NODE_DRAINING, "janitor", Metric.REPAIRS),
        (EventKind.NODE_DRAINING, "control plane", None),
        (EventKind.NODE_LAUNCHED, "janitor", None),
        (EventKind.START_FAILED, "control plane", Metric.FAILED_STARTS),
        (EventKind.BUDGET_WARNED, "control plane", Metric.BUDGETS),
        (EventKind.SIGNED_IN, "ann@example.com", None),
    ],
)
def test_an_event_counts_as(kind: EventKind, cause: str, metric: Metric | None) -> None:
    assert of_event(Event(1.0, kind, cause, "…")) == ({metric: 1} if metric else {})


def test_a_minute_costs_a_sixtieth_of_what_runs_costs_an_hour() -> None:
    nodes = [replace(NODE, micro_usd_per_hour=1_200_000), replace(NODE, micro_usd_per_hour=600_000)]
    gone = replace(NODE, state=NodeState.TERMINATED, micro_usd_per_hour=6_000_000)
    assert of_minute([*nodes, gone], {"m": 2, "n": 1}) == {
        Metric.NODES: 2,
        Metric.WAITING: 3,
        Metric.DOLLARS: 0.03,
    }


@pytest.mark.parametrize(
    ("node", "due_at"),
    [
        (replace(NODE, state=NodeState.BOOTING), 1000.0 + 1200.0),
        (replace(NODE, state=NodeState.DRAINING, draining_since=1295.0), 1295.0 + 300.0),
        (replace(NODE, state=NodeState.FAILED), 1300.0 + 300.0),
        (NODE, 1300.0),
        (replace(NODE, lease_until=1e9), 1000.0 + 86400.0),
        (replace(NODE, state=NodeState.DRAINING, draining_since=80_000.0, reason=OUTLIVED), 1000.0 + 86400.0),
        (replace(NODE, state=NodeState.DRAINING, draining_since=90_000.0, reason=OUTLIVED), 90_000.0 + 300.0),
    ],
)
@pytest.mark.parametrize("speaks", [True, False])
def test_a_node_is_overdue_a_while_after_its_last_reason_whatever_it_says(
    node: Node, due_at: float, speaks: bool
) -> None:
    limits = {"boot_limit_s": 1200.0, "drain_timeout_s": 300.0, "max_lifetime_s": 86400.0}
    node = replace(node, heartbeat_at=due_at + OVERDUE_S if speaks else 1290.0)
    assert not overdue(node, due_at + OVERDUE_S, **limits)
    assert overdue(node, due_at + OVERDUE_S + 1, **limits)


def test_the_line_names_every_value_that_it_holds() -> None:
    line = embedded("diogenes-prod", {Metric.NODES: 2, Metric.DOLLARS: 0.5}, 12.5)
    assert line == {
        "_aws": {
            "Timestamp": 12500,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Diogenes",
                    "Dimensions": [["Deployment"]],
                    "Metrics": [{"Name": "Nodes", "Unit": "Count"}, {"Name": "Dollars", "Unit": "Count"}],
                }
            ],
        },
        "Deployment": "diogenes-prod",
        "Nodes": 2,
        "Dollars": 0.5,
    }


async def test_an_event_that_counts_is_a_metric_in_its_own_line(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog(None, clock=FakeClock(5.0), writer="w", cause="janitor", deployment="diogenes-prod")
    log.tell(EventKind.NODE_ADOPTED, "Instance i-1 had no row, and was adopted.")
    log.tell(EventKind.NODE_GONE, "Node i-1 is gone.")
    caplog.set_level(logging.INFO)
    first = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (first["Repairs"], first["Deployment"], first["_aws"]["Timestamp"]) == (1, "diogenes-prod", 5000)
    assert all("_aws" not in vars(record) for record in caplog.records[1:])
