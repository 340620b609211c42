"""One round of the janitor: what it mends, what it says of that, and that it keeps quiet where nothing was amiss."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import pytest

from control_plane.app import FUNCTION_LAUNCH_S
from control_plane.errors import NoCapacity, Stale, Unavailable
from control_plane.event import Event, EventKind
from control_plane.infra.functions import JANITOR_SCHEDULE, TIMEOUT_S
from control_plane.janitor import EVENTS_S, EVERY_S, MEND_S, NOTICES_S, Round, clean
from control_plane.nodes import Node
from control_plane.plan import LAUNCH_VISIBLE_S
from control_plane.ports import Front, FrontState, Launch, Wish
from gpu_node.protocol import NodeState
from tests.night.deployment import GROUP, MODEL, Deployment
from tests.stories.virtual import story


async def deployment(*, holds: bool = False) -> Deployment:
    """Asleep, with one model; its group ``holds`` what it takes out."""
    world = Deployment()
    if holds:
        world.cloud.add_group(GROUP, holds=True)
    await world.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g6.xlarge"]})
    return world


async def cleaned(world: Deployment) -> Round:
    notices = world.notices.adapters
    return await clean(world.settings, world.outside, world.fronts, clock=world.clock, notices=notices)


async def wished(world: Deployment) -> None:
    now = world.clock()
    await world.wishes.ask(Wish(MODEL, 1, now + 120, "ann@example.com", now))


async def launched(world: Deployment) -> Node:
    """An instance, and the row that its launch would have written: not written yet."""
    now = world.clock()
    instance = await world.cloud.launch(Launch("t", MODEL, GROUP.name, "a", GROUP.market, now))
    return Node(
        instance.id,
        MODEL,
        NodeState.PENDING,
        GROUP.name,
        instance.zone,
        instance.instance_type,
        GROUP.market,
        launched_at=now,
        lease_until=now + 300,
    )


async def serving(world: Deployment) -> Node:
    """A node that is ready, and whose agent speaks."""
    now = world.clock()
    node = replace(await launched(world), state=NodeState.READY, ready_at=now, heartbeat_at=now, ip="10.0.0.1")
    world.nodes.rows[node.id] = node
    return node


def kinds(events: Sequence[Event]) -> list[EventKind]:
    return [event.kind for event in events]


def told(world: Deployment) -> list[tuple[EventKind, str]]:
    return [(event.kind, event.message) for event in world.events.kept]


async def hung() -> NoReturn:
    """What AWS says when it says nothing."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


# -- nodes


async def test_an_instance_without_a_row_is_adopted_and_reported() -> None:
    world = await deployment()
    node = await launched(world)
    found = await cleaned(world)
    assert list(world.nodes.rows) == [node.id]
    assert world.events.kept == [
        Event(
            world.clock(),
            EventKind.NODE_ADOPTED,
            "janitor",
            f"Instance {node.id} had no row, and was adopted.",
            MODEL,
            node.id,
        )
    ]
    assert found.mended == {"node-adopted": 1}


async def test_an_instance_whose_row_says_that_it_is_gone_is_not_called_adopted() -> None:
    world = await deployment()
    node = await launched(world)
    world.nodes.rows[node.id] = replace(node, state=NodeState.TERMINATED)
    await cleaned(world)
    assert world.cloud.terminated == [node.id]
    assert told(world) == [(EventKind.NODE_TERMINATING, f"Instance {node.id} was taken out of its group.")]


async def test_a_leaked_node_is_drained_terminated_and_buried_and_each_is_reported() -> None:
    world = await deployment()
    node = await serving(world)
    for _ in range(5):
        world.clock.step(EVERY_S)
        await cleaned(world)
    assert await world.nodes.list() == []
    assert told(world) == [
        (EventKind.NODE_DRAINING, f"Node {node.id} drains: its agent fell silent."),
        (EventKind.NODE_TERMINATING, f"Node {node.id} is being terminated."),
        (EventKind.NODE_GONE, f"Node {node.id} is gone."),
    ]
    assert {(event.model, event.node, event.cause) for event in world.events.kept} == {(MODEL, node.id, "janitor")}


async def test_a_node_that_never_spoke_is_failed_and_reported() -> None:
    world = await deployment()
    node = await launched(world)
    world.nodes.rows[node.id] = node
    world.clock.step(world.settings.claim_limit_s + 1)
    await wished(world)
    await cleaned(world)
    *front, (kind, message) = told(world)
    assert [kind for kind, _ in front] == [EventKind.FRONT_MOVED, EventKind.TASKS_SET]
    assert kind is EventKind.NODE_FAILED
    assert message.startswith(f"Node {node.id} failed: The GPU instance was launched 301 s ago")


async def test_an_instance_that_its_group_holds_for_nobody_is_released_and_reported() -> None:
    world = await deployment(holds=True)
    node = await launched(world)
    world.cloud.empty(GROUP.name)
    await cleaned(world)
    assert world.cloud.released == [node.id]
    assert told(world) == [
        (EventKind.NODE_RELEASED, f"Instance {node.id} was released: its group may end it now."),
    ]


async def test_a_launch_whose_end_nobody_knows_is_given_up_and_reported() -> None:
    world = await deployment()
    await world.launches.intend(Launch("t", MODEL, GROUP.name, "a", GROUP.market, world.clock() - LAUNCH_VISIBLE_S))
    await cleaned(world)
    assert world.launches.rows == {}
    assert kinds(world.events.kept) == [EventKind.LAUNCH_ABANDONED]


# -- wishes


async def test_a_wish_that_nobody_serves_wakes_the_control_plane_and_launches_and_all_is_reported() -> None:
    world = await deployment()
    await wished(world)
    found = await cleaned(world)
    assert (found.state, found.acted, world.stage.desired) == ("waking", True, 1)
    (node,) = world.nodes.rows
    assert told(world) == [
        (EventKind.FRONT_MOVED, "The control plane's state became waking."),
        (EventKind.TASKS_SET, "The number of the control plane's tasks was set to 1."),
        (EventKind.NODE_LAUNCHED, f"Node {node} was launched for {MODEL}."),
    ]
    assert world.events.kept[-1].node == node


async def test_a_launch_that_is_repeated_is_reported() -> None:
    world = await deployment()
    await world.launches.intend(Launch("t", MODEL, GROUP.name, "a", GROUP.market, world.clock()))
    await wished(world)
    await cleaned(world)
    assert kinds(world.events.kept)[-1] is EventKind.NODE_LAUNCHED
    assert [node.id for node in world.nodes.rows.values()] == [world.events.kept[-1].node]


async def test_a_launch_that_was_refused_is_no_launch_and_the_wish_that_it_costs_is_reported() -> None:
    world = await deployment()
    for zone in GROUP.zones:
        world.cloud.refusals[GROUP.name, zone] = NoCapacity("InsufficientInstanceCapacity", "none left")
    await wished(world)
    await cleaned(world)
    assert EventKind.NODE_LAUNCHED not in kinds(world.events.kept)
    world.clock.step(1)
    await cleaned(world)
    assert world.wishes.rows == {}
    refused = world.events.kept[-1]
    assert (refused.kind, refused.model) == (EventKind.WISH_REFUSED, MODEL)
    assert refused.message.startswith(f"The wish for {MODEL} was taken back: AWS has no g6.xlarge to give now")


# -- what is not mended is not reported


async def test_a_quiet_round_writes_nothing() -> None:
    world = await deployment()
    world.events.broken.fail("add", Stale("somebody wrote"))
    found = await cleaned(world)
    assert (found.state, found.acted, found.mended) == ("asleep", True, {})


async def test_a_lease_that_is_renewed_is_nothing_mended() -> None:
    world = await deployment()
    node = await serving(world)
    await world.wishes.keep_awake(MODEL, world.clock() + 3600, by="ann@example.com", at=world.clock())
    world.clock.step(200)
    world.nodes.rows[node.id] = replace(node, heartbeat_at=world.clock())
    found = await cleaned(world)
    assert world.nodes.rows[node.id].lease_until > node.lease_until
    assert (found.mended, world.events.kept) == ({}, [])


async def test_a_control_plane_that_lives_does_its_own_work_and_nothing_is_reported() -> None:
    world = await deployment()
    node = await launched(world)
    world.front.front = Front(FrontState.AWAKE, 3, world.clock())
    world.stage.desired, world.stage.start_s, world.stage.facing = 1, 0, True
    await world.fence.take("task-1")
    found = await cleaned(world)
    assert (found.state, found.acted) == ("awake", False)
    assert node.id not in world.nodes.rows
    assert world.events.kept == []


@pytest.mark.parametrize("error", [Stale("raced"), Unavailable("throttled")], ids=lambda error: type(error).__name__)
async def test_what_failed_or_was_somebody_elses_is_not_reported(error: Stale | Unavailable) -> None:
    world = await deployment()
    await serving(world)
    world.clock.step(EVERY_S)
    world.nodes.broken.fail("move", error)
    found = await cleaned(world)
    assert (found.acted, found.mended, world.events.kept) == (True, {}, [])


# -- what goes wrong, and what is said in the log


async def test_the_log_line_says_how_many_were_mended_and_of_what_kinds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = await deployment()
    await wished(world)
    found = await cleaned(world)
    (line,) = [record for record in caplog.records if record.message == "janitor's round"]
    assert vars(line).items() >= found.told.items()
    assert found.told == {
        "state": "waking",
        "acted": True,
        "mended": 3,
        "kinds": {"node-launched": 1, "front-moved": 1, "tasks-set": 1},
    }


async def test_a_round_whose_events_cannot_be_written_is_a_round_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = await deployment()
    world.stage.desired = 1
    world.events.broken.fail("add", Unavailable("DynamoDB refused a call on events: ThrottlingException"))
    found = await cleaned(world)
    assert (found.state, found.mended, world.stage.desired) == ("asleep", {"tasks-set": 1}, 0)
    warned, line = caplog.records[-2:]
    assert (warned.levelname, warned.message, vars(warned)["events"]) == ("WARNING", "events not written", 1)
    assert (line.message, vars(line)["mended"]) == ("janitor's round", 1)


async def test_a_round_that_is_cut_short_passes_on_why_and_reports_what_it_had_mended() -> None:
    world = await deployment()
    node = await launched(world)
    world.stage.broken.fail("look", times=2)
    with pytest.raises(Unavailable):
        await cleaned(world)
    assert [(event.kind, event.node) for event in world.events.kept] == [(EventKind.NODE_ADOPTED, node.id)]


@story
async def test_a_round_in_which_aws_does_not_answer_ends_in_time_to_tell_what_it_did() -> None:
    world = await deployment()
    node = await launched(world)
    world.stage.look = hung  # type: ignore[method-assign]
    begun_at = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="cut off"):
        await cleaned(world)
    assert asyncio.get_running_loop().time() - begun_at == pytest.approx(MEND_S)
    assert [(event.kind, event.node) for event in world.events.kept] == [(EventKind.NODE_ADOPTED, node.id)]
    (notice,) = world.notices.channel.sent
    assert notice.entries[0].event.node == node.id


def test_a_round_and_all_that_it_tells_end_before_the_function_is_ended() -> None:
    assert MEND_S + NOTICES_S + 2 * EVENTS_S < TIMEOUT_S
    assert FUNCTION_LAUNCH_S < MEND_S - 5  # what is looked at before a launch


@pytest.mark.parametrize(("zones", "told"), [("ab", True), ("abcd", False)])
async def test_a_drought_is_remembered_where_all_zones_told_of_it_in_time(zones: str, told: bool) -> None:
    world = await deployment()
    world.cloud.launch_s = 15.0
    world.cloud.add_group(replace(GROUP, zones=tuple(zones)))
    full = NoCapacity("InsufficientInstanceCapacity", "none left")
    world.cloud.refusals.update({(GROUP.name, zone): full for zone in zones})
    await wished(world)
    await cleaned(world)
    assert [launch.zone for launch in world.cloud.launches] == ["a", "b"]
    assert (world.models.rows[MODEL].refusal is not None) is told
    assert (EventKind.LAUNCH_REFUSED in kinds(world.events.kept)) is told
    assert MODEL in world.wishes.rows  # the task that it wakes goes on


@pytest.mark.parametrize("task", [False, True], ids=["no task", "a task, which tells it itself"])
async def test_what_runs_while_no_task_does_is_measured_for_the_pace_of_spending(
    task: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert f"rate({EVERY_S / 60:.0f} minutes)" == JANITOR_SCHEDULE
    caplog.set_level(logging.INFO)
    world = await deployment()
    node = await serving(world)
    world.nodes.rows[node.id] = replace(node, micro_usd_per_hour=1_200_000)
    if task:
        await world.fence.take("task")
    await cleaned(world)
    lines = [vars(record) for record in caplog.records if record.message == "measured"]
    assert [(line["Nodes"], line["Dollars"]) for line in lines] == ([] if task else [(1, 0.04)])


async def test_a_node_that_outlives_its_lifetime_is_an_alarm_however_well_it_speaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await deployment()
    node = await serving(world)
    await world.fence.take("task")  # a control plane is at work, and does not see it
    for age_s, overdue in ((80_000.0, 0), (87_100.0, 1)):
        now = world.clock.now = node.launched_at + age_s
        await world.fence.take("task")
        world.nodes.rows[node.id] = replace(node, heartbeat_at=now, lease_until=now + 300)
        caplog.clear()
        await cleaned(world)
        assert sum(vars(record).get("OverdueNodes", 0) for record in caplog.records) == overdue


async def test_without_a_place_for_events_all_is_mended_all_the_same() -> None:
    world = await deployment()
    world.stage.desired = 1
    found = await clean(world.settings, replace(world.outside, events=None), world.fronts, clock=world.clock)
    assert (found.mended, world.stage.desired) == ({"tasks-set": 1}, 0)
