"""The promises of NodeStore."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import Stale
from control_plane.nodes import Node, NodeId
from control_plane.ports import NodeStore
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord
from tests.contract.under_test import Stores

AT = 1_795_000_000.25
NODE = Node(
    id=NodeId("i-0a"),
    model="small",
    state=NodeState.PENDING,
    group="test-small-on-demand",
    zone="us-east-1a",
    instance_type="g6.xlarge",
    market="on-demand",
    launched_at=AT,
    lease_until=AT + 300,
)
FAILURE = Failure("out_of_gpu_memory", "It does not fit.", "Take a larger type.", permanent=True)


@pytest.fixture
def nodes(stores: Stores) -> NodeStore:
    return stores.nodes


async def only(nodes: NodeStore) -> Node:
    (node,) = await nodes.list()
    return node


async def test_a_node_reads_back_as_it_was_added(nodes: NodeStore) -> None:
    full = replace(
        NODE,
        state=NodeState.FAILED,
        ready_at=AT + 90,
        last_request_at=AT + 100.5,
        heartbeat_at=AT + 101,
        ip="10.0.0.7",
        phases=(PhaseRecord(Phase.INSTANCE, AT), PhaseRecord(Phase.WEIGHTS, AT + 9.5, done_bytes=1, total_bytes=2)),
        running=3,
        waiting=1,
        log_tail=("a line", "another"),
        error=FAILURE,
        reason="its engine ended",
    )
    await nodes.add(full)
    assert await only(nodes) == full


async def test_a_second_row_for_an_instance_is_stale_and_changes_nothing(nodes: NodeStore) -> None:
    await nodes.add(NODE)
    with pytest.raises(Stale):
        await nodes.add(replace(NODE, model="other"))
    assert await only(nodes) == NODE


async def test_a_claim_fills_in_what_the_agent_cannot_know(nodes: NodeStore) -> None:
    of_agent = replace(NODE, state=NodeState.BOOTING, group="", launched_at=AT + 7, lease_until=AT + 100, ip="10.0.0.7")
    await nodes.add(of_agent)
    await nodes.claim(NODE)
    assert await only(nodes) == replace(
        of_agent, group=NODE.group, launched_at=NODE.launched_at, lease_until=NODE.lease_until
    )


async def test_a_claim_never_shortens_a_lease(nodes: NodeStore) -> None:
    await nodes.add(replace(NODE, lease_until=AT + 900))
    await nodes.claim(NODE)
    assert (await only(nodes)).lease_until == AT + 900


async def test_a_claim_without_a_row_is_stale(nodes: NodeStore) -> None:
    with pytest.raises(Stale):
        await nodes.claim(NODE)
    assert await nodes.list() == []


async def test_a_claim_on_a_terminated_node_is_stale(nodes: NodeStore) -> None:
    await nodes.add(replace(NODE, state=NodeState.TERMINATED))
    with pytest.raises(Stale):
        await nodes.claim(NODE)


async def test_draining_remembers_when_and_why(nodes: NodeStore) -> None:
    await nodes.add(replace(NODE, state=NodeState.READY))
    await nodes.move(NODE.id, NodeState.READY, NodeState.DRAINING, at=AT + 5, reason="idle")
    node = await only(nodes)
    assert (node.state, node.draining_since, node.reason) == (NodeState.DRAINING, AT + 5, "idle")


async def test_a_failed_node_keeps_its_error_until_it_is_gone(nodes: NodeStore) -> None:
    await nodes.add(NODE)
    await nodes.move(NODE.id, NodeState.PENDING, NodeState.FAILED, at=AT, reason="boot", error=FAILURE)
    assert (await only(nodes)).error == FAILURE
    await nodes.move(NODE.id, NodeState.FAILED, NodeState.TERMINATED, at=AT + 1, reason="taken down")
    assert await nodes.list() == []


async def test_a_move_from_another_state_is_stale_and_changes_nothing(nodes: NodeStore) -> None:
    await nodes.add(NODE)
    with pytest.raises(Stale):
        await nodes.move(NODE.id, NodeState.READY, NodeState.DRAINING, at=AT, reason="idle")
    assert await only(nodes) == NODE


async def test_a_move_of_an_unknown_node_is_stale(nodes: NodeStore) -> None:
    with pytest.raises(Stale):
        await nodes.move(NODE.id, NodeState.READY, NodeState.DRAINING, at=AT, reason="idle")


async def test_a_move_that_is_in_no_table_is_a_mistake_of_ours(nodes: NodeStore) -> None:
    await nodes.add(replace(NODE, state=NodeState.TERMINATED))
    with pytest.raises(AssertionError):
        await nodes.move(NODE.id, NodeState.TERMINATED, NodeState.READY, at=AT, reason="resurrection")


async def test_of_fifty_concurrent_moves_exactly_one_wins(nodes: NodeStore) -> None:
    await nodes.add(replace(NODE, state=NodeState.READY))
    moves = [
        nodes.move(NODE.id, NodeState.READY, NodeState.DRAINING, at=AT + n, reason=f"mover {n}") for n in range(50)
    ]
    outcomes = await asyncio.gather(*moves, return_exceptions=True)
    (winner,) = (n for n, outcome in enumerate(outcomes) if outcome is None)
    assert all(isinstance(outcome, Stale) for outcome in outcomes if outcome is not None)
    assert (await only(nodes)).reason == f"mover {winner}"


async def test_a_lease_only_grows(nodes: NodeStore) -> None:
    await nodes.add(NODE)
    await nodes.renew(NODE.id, lease_until=AT + 900, last_request_at=AT + 10)
    await nodes.renew(NODE.id, lease_until=AT + 600, last_request_at=AT + 5)
    node = await only(nodes)
    assert (node.lease_until, node.last_request_at) == (AT + 900, AT + 10)


async def test_a_later_request_counts_even_where_the_lease_does_not_grow(nodes: NodeStore) -> None:
    await nodes.add(NODE)
    await nodes.renew(NODE.id, lease_until=AT + 900, last_request_at=0.0)
    await nodes.renew(NODE.id, lease_until=AT + 600, last_request_at=AT + 5)
    node = await only(nodes)
    assert (node.lease_until, node.last_request_at) == (AT + 900, AT + 5)


@pytest.mark.parametrize("row", [None, replace(NODE, state=NodeState.TERMINATED)], ids=["absent", "terminated"])
async def test_a_node_that_is_gone_gets_no_lease(nodes: NodeStore, row: Node | None) -> None:
    if row:
        await nodes.add(row)
    with pytest.raises(Stale):
        await nodes.renew(NODE.id, lease_until=AT + 900, last_request_at=AT)
    assert await nodes.list() == []


async def test_more_nodes_than_a_page_holds_are_all_listed(nodes: NodeStore) -> None:
    heavy = tuple("x" * 400 for _ in range(200))  # 80 KB: a page of DynamoDB ends after 1 MB
    added = [replace(NODE, id=NodeId(f"i-{n:02}"), log_tail=heavy) for n in range(16)]
    for node in added:
        await nodes.add(node)
    assert sorted(await nodes.list(), key=lambda node: node.id) == added
