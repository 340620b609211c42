"""The third guard, alone: with no control plane left, every node takes itself down."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.model import slug
from tests.desk.story import BOUND_S, opened

pytestmark = pytest.mark.desk

READY, STREAMING, LOADING = "alone/ready", "alone/streaming", "alone/loading"
REPORT = "dynamodb:UpdateItem"
LONG = "Tell me more [[tokens=900 gap=0.05]]"


async def test_nodes_whose_control_plane_is_gone_for_good_leave_by_their_own_lease() -> None:
    environment = {"DIOGENES_LEASE_S": "3", "DIOGENES_NODE_HEARTBEAT_S": "0.5"}
    with opened(READY, STREAMING, LOADING, idle_seconds=600, environment=environment) as story:
        assert (await story.ask(READY)).whole
        begun = asyncio.Event()
        streaming = asyncio.create_task(story.ask(STREAMING, LONG, stream=True, begun=begun))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        waiting = asyncio.create_task(story.ask(LOADING))
        loading = await story.loading(LOADING)
        nodes = [loading, await story.node(READY), await story.node(STREAMING)]
        await asyncio.to_thread(story.desk.kill_control_plane)
        answers = await asyncio.gather(streaming, waiting)
        assert [answer for answer in answers if not answer.error] == []
        await asyncio.gather(*(story.gone(model) for model in (READY, STREAMING, LOADING)))
        for node in nodes:
            assert "the lease has run out" in story.desk.node_log(node).read_text()


async def test_a_node_that_cannot_read_its_lease_leaves_as_well() -> None:
    environment = {"DIOGENES_NODE_HEARTBEAT_S": "0.5", "DIOGENES_NODE_BLIND_LIMIT_S": "2"}
    with opened(READY, idle_seconds=600, environment=environment) as story:
        assert (await story.ask(READY)).whole
        node = await story.node(READY)
        await asyncio.to_thread(story.desk.kill_control_plane)
        story.desk.add_fault(throttle="dynamodb:UpdateItem", times="always")
        await story.gone(READY)
        assert "the table cannot be read" in story.desk.node_log(node).read_text()


async def test_a_node_that_may_no_longer_touch_its_row_leaves_by_its_own_count() -> None:
    environment = {"DIOGENES_NODE_HEARTBEAT_S": "0.5", "DIOGENES_NODE_BLIND_LIMIT_S": "2"}
    with opened(READY, idle_seconds=600, environment=environment, denied={REPORT}) as story:
        assert (await story.ask(READY)).whole
        node = await story.node(READY)
        (role,) = (name for name in story.desk.account.roles() if slug(READY) in name)
        story.desk.revoke(role, REPORT)
        await story.gone(READY)
        log = story.desk.node_log(node).read_text()
        assert "the table cannot be read" in log
        assert "UpdateItem: AccessDeniedException" in log
