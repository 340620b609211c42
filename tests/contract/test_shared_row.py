"""A node's agent and the control plane write one row, each with its own adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import boto3
import pytest

from control_plane.nodes import Node, NodeId
from control_plane.ports import NodeStore
from gpu_node.protocol import NodeState, Orders, Phase, PhaseRecord, Report
from gpu_node.table import Names, Table
from tests.contract.under_test import Desk, Stores

AT = 1_795_000_000.25
REPORT = Report(
    instance_id="i-0a",
    model="small",
    state=NodeState.BOOTING,
    heartbeat_at=AT + 20,
    ip="10.0.0.7",
    instance_type="g6.xlarge",
    zone="us-east-1a",
    market="spot",
    phases=(PhaseRecord(Phase.INSTANCE, AT + 4),),
    log_tail=("first line",),
)
LAUNCHED = Node(
    id=NodeId("i-0a"),
    model="small",
    state=NodeState.PENDING,
    group="test-small-spot",
    zone="us-east-1a",
    instance_type="g6.xlarge",
    market="spot",
    launched_at=AT,
    lease_until=AT + 300,
)

Agent = Callable[[Report], Orders]


@pytest.fixture
def nodes(dynamo_stores: Stores) -> NodeStore:
    return dynamo_stores.nodes


@pytest.fixture
def agent(tables: None, desk: Desk, namespace: str) -> Agent:
    names = Names(f"{namespace}-instances", f"{namespace}-models", "test-small-spot")
    return Table(boto3.client("dynamodb"), boto3.client("autoscaling"), names=names).report


async def only(nodes: NodeStore) -> Node:
    (node,) = await nodes.list()
    return node


async def test_a_node_that_spoke_first_is_claimed_with_what_it_said(nodes: NodeStore, agent: Agent) -> None:
    orders = agent(REPORT)
    await nodes.claim(LAUNCHED)
    assert await only(nodes) == replace(
        LAUNCHED,
        state=NodeState.BOOTING,
        lease_until=orders.lease_until,
        heartbeat_at=REPORT.heartbeat_at,
        ip=REPORT.ip,
        phases=REPORT.phases,
        log_tail=REPORT.log_tail,
    )


async def test_a_node_that_speaks_second_leaves_the_launch_as_it_was(nodes: NodeStore, agent: Agent) -> None:
    await nodes.add(LAUNCHED)
    assert agent(REPORT) == Orders(NodeState.BOOTING, LAUNCHED.lease_until)
    node = await only(nodes)
    assert (node.launched_at, node.group, node.ip) == (AT, LAUNCHED.group, REPORT.ip)


async def test_ready_is_when_the_node_says_so(nodes: NodeStore, agent: Agent) -> None:
    await nodes.add(LAUNCHED)
    agent(REPORT)
    agent(replace(REPORT, state=NodeState.READY, heartbeat_at=AT + 90))
    agent(replace(REPORT, state=NodeState.READY, heartbeat_at=AT + 95))
    node = await only(nodes)
    assert (node.state, node.ready_at, node.heartbeat_at) == (NodeState.READY, AT + 90, AT + 95)


async def test_a_draining_node_learns_it_and_does_not_undo_it(nodes: NodeStore, agent: Agent) -> None:
    await nodes.add(LAUNCHED)
    await nodes.move(LAUNCHED.id, NodeState.PENDING, NodeState.DRAINING, at=AT, reason="cancelled")
    assert agent(replace(REPORT, state=NodeState.READY)).state is NodeState.DRAINING
    assert (await only(nodes)).state is NodeState.DRAINING


async def test_a_renewed_lease_reaches_the_node(nodes: NodeStore, agent: Agent) -> None:
    await nodes.add(LAUNCHED)
    await nodes.renew(LAUNCHED.id, lease_until=AT + 1234.5, last_request_at=AT)
    assert agent(REPORT).lease_until == AT + 1234.5


async def test_a_terminated_row_keeps_no_log_and_goes_after_two_weeks(
    nodes: NodeStore, agent: Agent, desk: Desk, namespace: str
) -> None:
    agent(REPORT)
    await nodes.move(LAUNCHED.id, NodeState.BOOTING, NodeState.DRAINING, at=AT, reason="cancelled")
    await nodes.move(LAUNCHED.id, NodeState.DRAINING, NodeState.TERMINATED, at=AT + 9, reason="gone")
    assert agent(REPORT).state is NodeState.TERMINATED
    row = desk.account.row(f"{namespace}-instances", {"instance_id": {"S": "i-0a"}})
    assert row is not None
    assert row["terminated_at"] == AT + 9
    assert row["expires_at"] == int(AT + 9) + 14 * 86400
    assert row.keys().isdisjoint({"log_tail", "phases"})
