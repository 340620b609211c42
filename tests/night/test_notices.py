"""Notices while everything sleeps: the janitor sends what it mended, and what anybody told, and nothing harms it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from control_plane import janitor
from control_plane.books import Bill, BillKind, Limit
from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.event_log import EventLog
from control_plane.janitor import EVERY_S
from control_plane.notice import Notice
from control_plane.notifier import GATHER_S
from gpu_node.protocol import NodeState
from tests.memory_notices import MemoryChannel
from tests.night.deployment import MODEL, Deployment
from tests.night.test_janitor import cleaned, deployment, launched, serving


def tell(world: Deployment) -> EventLog:
    """As a task does, that has ended since."""
    log = EventLog(world.events, clock=world.clock, writer="task", cause="control plane")
    log.tell(
        EventKind.START_FAILED, "A start failed.", model=MODEL, data={"code": "disk_full", "fix": "A larger disk."}
    )
    return log


async def test_a_leak_is_sent_in_the_round_that_repairs_it_and_once() -> None:
    world = await deployment()
    node = await launched(world)
    for _ in range(10):
        await cleaned(world)
        world.clock.step(1.0)
    (notice,) = world.notices.channel.sent
    assert notice.title == f"[{world.settings.namespace}] a leak was repaired"
    assert notice.text.endswith("\nNothing has to be done. What came before it stands among the events.")
    assert world.notices.channel.messages == [f"Instance {node.id} had no row, and was adopted."]


async def test_what_a_node_went_through_until_it_was_gone_is_gathered() -> None:
    world = await deployment()
    node = await serving(world)
    for _ in range(int(GATHER_S / EVERY_S) + 5):
        world.clock.step(EVERY_S)
        await cleaned(world)
    assert world.nodes.rows[node.id].state is NodeState.TERMINATED
    assert world.notices.channel.messages == [
        f"Node {node.id} drains: its agent fell silent.",
        f"Node {node.id} is being terminated.",
    ]
    assert len(world.notices.channel.sent) == 2


async def test_what_a_task_told_is_sent_whether_or_not_one_is_at_work() -> None:
    world = await deployment()
    await tell(world).flush()
    await world.fence.take("a task")
    found = await cleaned(world)
    assert not found.acted
    assert world.notices.channel.messages == ["A start failed."]
    assert world.notices.channel.sent[0].text.endswith("\nA larger disk.")


@pytest.mark.parametrize(("limit", "kind"), [(1_200_000, "warned"), (1_000_000, "reached"), (500_000, "exceeded")])
async def test_a_budget_that_is_spent_while_nobody_is_awake_is_told_and_sent_once(limit: int, kind: str) -> None:
    world = await deployment()
    now = world.clock()
    await world.usage.close(Bill("i-1", BillKind.NODE, now - 3600, now, 1_000_000, model=MODEL))
    world.limits.rows["deployment"] = Limit("deployment", limit, 2 * limit if limit > 500_000 else limit)
    for _ in range(20):
        await cleaned(world)
        world.clock.step(EVERY_S)
    assert [event.kind for event in world.events.kept] == [EventKind(f"budget-{kind}")]
    (message,) = world.notices.channel.messages
    assert message.startswith("Of the budget of deployment for ")


async def test_the_log_is_written_to_only_where_there_is_something_to_tell() -> None:
    world = await deployment()
    world.events.broken.fail("add")
    await cleaned(world)
    with pytest.raises(Unavailable):
        await world.events.add([], writer="w", number=1)  # nobody had


async def test_a_log_that_does_not_take_what_is_told_of_budgets_keeps_the_janitor_from_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await deployment()
    world.limits.rows["deployment"] = Limit("deployment", 1, 2)
    now = world.clock()
    await world.usage.close(Bill("i-1", BillKind.NODE, now - 3600, now, 1_000_000, model=MODEL))
    node = await launched(world)
    world.events.broken.fail("add")
    await cleaned(world)
    assert node.id in world.nodes.rows
    assert "budgets not told" in [record.message for record in caplog.records]


async def test_a_channel_that_takes_nothing_or_hangs_harms_nothing_and_gets_it_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(janitor, "NOTICES_S", 0.01)
    caplog.set_level(logging.INFO)

    class Hanging(MemoryChannel):
        async def send(self, notice: Notice) -> None:
            await asyncio.sleep(3600)

    world = await deployment()
    node, taking = await launched(world), world.notices.channel
    world.notices.channel = Hanging()
    found = await cleaned(world)
    assert found.mended == {"node-adopted": 1}
    assert [record.message for record in caplog.records][-2:] == ["notices cut off", "janitor's round"]
    world.notices.channel = taking
    taking.broken.fail("send")
    for _ in range(3):
        world.clock.step(EVERY_S)
        await cleaned(world)
    assert taking.messages[0] == f"Instance {node.id} had no row, and was adopted."


async def test_what_was_mended_is_sent_even_where_the_round_broke_off() -> None:
    world = await deployment()
    node = await launched(world)
    world.stage.broken.fail("look", times=9)
    with pytest.raises(Unavailable):
        await cleaned(world)
    assert world.notices.channel.messages == [f"Instance {node.id} had no row, and was adopted."]
