"""What the ticks of functions launch, and what becomes of it where their time is over first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from control_plane.app import FUNCTION_LAUNCH_S, ControlPlane
from control_plane.errors import NoCapacity, Unavailable
from control_plane.nodes import STARTING, Node
from control_plane.ports import Front, Instance, Launch, Term, Wish
from control_plane.waking import CUT_OFF_S, Pace
from gpu_node.protocol import Failure, NodeState
from tests.night.deployment import GROUP, MODEL, Deployment
from tests.night.test_janitor import cleaned, deployment, launched, wished
from tests.night.test_night import ASK, _key, asleep, call
from tests.night.test_waking import CHAT, LoopClock, Virtual
from tests.stories.virtual import story

ORDER = {"model": MODEL, "desired": 1}
FULL = NoCapacity("InsufficientInstanceCapacity", "none left")


async def test_no_launch_is_repeated_while_the_last_wake_stands_as_failed() -> None:
    """AWS may never have heard of it."""
    world = await deployment()
    await wished(world)
    intent = Launch("t", MODEL, GROUP.name, "a", GROUP.market, world.clock())
    await world.launches.intend(intent)
    world.front.front = Front(failure=Failure("control_plane_not_starting", "Broken."), failed_at=world.clock())
    await cleaned(world)
    assert (world.cloud.launches, list(world.launches.rows)) == ([], ["t"])
    world.front.front = Front()
    await cleaned(world)
    assert (world.cloud.launches, list(world.launches.rows)) == ([intent], [])


async def test_a_round_that_is_cut_off_leaves_no_launch_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function stands still afterwards, and would go on with it in its next call: without an epoch."""
    world = await deployment()
    await launched(world)
    other = replace(GROUP, name="other", model="org/other")
    world.cloud.add_group(other)
    await world.models.seed(other.model, {"name": other.model, "instanceTypes": ["g6.xlarge"]})
    now = world.clock()
    await world.wishes.ask(Wish(other.model, 1, now + 120, "ann@example.com", now))
    told, begun = list[str](), asyncio.Event()

    async def launch(_: Launch) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("is cut off")

    async def release(_: object) -> None:
        told.append("lets go")

    monkeypatch.setattr(world.cloud, "launch", launch)
    monkeypatch.setattr(world.nodes, "add", lambda _: asyncio.Event().wait())  # of the one that has no row
    monkeypatch.setattr(world.fence, "release", release)
    round_ = asyncio.ensure_future(cleaned(world))
    await begun.wait()
    round_.cancel()
    await asyncio.gather(round_, return_exceptions=True)
    assert told == ["is cut off", "lets go"]


async def test_an_order_by_hand_launches_nothing_after_a_failed_wake_though_aws_lets_nobody_look() -> None:
    async with asleep() as (world, key):
        world.front.front = Front(failure=Failure("control_plane_not_starting", "Broken."), failed_at=1.0)
        world.stage.broken.fail("look", Unavailable("ECS"), times=2)
        order = {"model": MODEL, "desired": 1}
        answer = await call(world.app(), "POST", "/api/cluster/scale", key=key, body=order)
        assert answer.status == 202
        assert world.cloud.launches == []


# -- a function's time is over first


async def one_left(world: Deployment) -> None:
    """Two markets in three zones each, of which the last one has an instance."""
    config = {"name": MODEL, "instanceTypes": ["g6.xlarge"], "market": "spot-then-on-demand"}
    await world.models.seed(MODEL, config)
    world.cloud.delete_group(GROUP.name)
    for market in ("spot", "on-demand"):
        world.cloud.add_group(replace(GROUP, name=market, market=market, zones=("a", "b", "c")))
        world.cloud.refusals.update({(market, zone): FULL for zone in "abc"})
    del world.cloud.refusals["on-demand", "c"]


@pytest.mark.parametrize("rung_s", [4.0, 5.0])
async def test_no_zone_is_told_to_have_nothing_that_was_not_asked(rung_s: float) -> None:
    """The next tick of the same hold goes on."""
    async with asleep() as (world, key):
        await one_left(world)
        world.cloud.launch_s = rung_s
        assert 6 * rung_s > FUNCTION_LAUNCH_S
        answer = await call(world.app(), "POST", CHAT, key=key, body=ASK)
        assert answer.status == 307
        assert [(launch.market, launch.zone) for launch in world.cloud.launches] == [
            (market, zone) for market in ("spot", "on-demand") for zone in "abc"
        ]
        assert [node.zone for node in await world.nodes.list()] == ["c"]
        assert world.models.rows[MODEL].refusal is None


async def test_the_task_goes_on_where_the_function_ended() -> None:
    world = await deployment()
    await one_left(world)
    world.cloud.launch_s = 4.0
    await wished(world)
    await cleaned(world)
    assert (world.models.rows[MODEL].refusal, list(world.wishes.rows)) == (None, [MODEL])
    task = ControlPlane(world.settings, world.outside, clock=world.clock)
    assert await task.reconciler.once()
    assert [(node.market, node.zone) for node in await world.nodes.list()] == [("on-demand", "c")]
    assert world.models.rows[MODEL].refusal is None


def slowed(world: Deployment, seconds: float) -> None:
    """AWS takes so long for each launch, and goes on with it whoever hung up."""
    taken, under_way = world.cloud.launch, dict[str, asyncio.Future[Instance]]()

    async def decided(wanted: Launch) -> Instance:
        await asyncio.sleep(seconds)
        return await taken(wanted)

    async def slow(launch: Launch) -> Instance:
        if launch.token not in under_way:
            under_way[launch.token] = asyncio.ensure_future(decided(launch))
        return await asyncio.shield(under_way[launch.token])

    world.cloud.launch = slow  # type: ignore[method-assign]


async def virtual() -> tuple[Virtual, str]:
    """A deployment at its own pace, and a key."""
    world = Virtual(clock=LoopClock())
    await world.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g5.xlarge"]})
    return world, await _key(world)


@story
async def test_a_launch_that_is_answered_late_is_nobodys_refusal_and_gets_its_row() -> None:
    world, key = await virtual()
    world.stage.start_s = 60
    slowed(world, FUNCTION_LAUNCH_S + 5)
    answer = await call(world.app(), "POST", CHAT, key=key, body=ASK)
    assert answer.status == 307
    assert world.models.rows[MODEL].refusal is None
    assert (len(world.cloud.launches), world.launches.rows) == (1, {})
    assert [node.state in STARTING for node in await world.nodes.list()] == [True]


# -- a tick that came to nothing


def _cloud_unseen(world: Deployment) -> None:
    world.cloud.broken.fail("groups")


def _intent_unwritten(world: Deployment) -> None:
    world.launches.broken.fail("intend")


def _row_unwritten(world: Deployment) -> None:
    world.nodes.broken.fail("add")


@pytest.mark.parametrize("break_", [_cloud_unseen, _intent_unwritten, _row_unwritten])
@story
async def test_a_tick_that_came_to_nothing_is_made_up_for_within_the_hold(
    break_: Callable[[Deployment], None],
) -> None:
    world, key = await virtual()
    world.stage.start_s = 60
    break_(world)
    asking = asyncio.ensure_future(call(world.app(), "POST", CHAT, key=key, body=ASK))
    await asyncio.sleep(Pace.launch_again_s + 2 * Pace.poll_s)
    assert [node.state in STARTING for node in await world.nodes.list()] == [True]
    assert len({launch.token for launch in world.cloud.launches}) == 1
    assert (await asking).status == 307


@story
async def test_an_intent_that_is_refused_does_not_end_the_search() -> None:
    """It was one zone's alone."""
    world, key = await virtual()
    world.stage.start_s = 60
    await world.launches.intend(Launch("t", MODEL, GROUP.name, "a", GROUP.market, world.clock()))
    world.cloud.refusals[GROUP.name, "a"] = FULL
    answer = await call(world.app(), "POST", CHAT, key=key, body=ASK)
    assert answer.status == 307
    assert [node.zone for node in await world.nodes.list()] == ["b"]


@story
async def test_a_tick_that_launched_is_the_only_one_of_its_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    world, key = await virtual()
    world.stage.start_s = 60
    taken, take_over = 0, world.fence.take_over

    async def counted(holder: str, *, silent_s: float) -> Term:
        nonlocal taken
        taken += 1
        return await take_over(holder, silent_s=silent_s)

    monkeypatch.setattr(world.fence, "take_over", counted)
    assert (await call(world.app(), "POST", CHAT, key=key, body=ASK)).status == 307
    assert taken == 1


# -- whoever does not wait


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        (CHAT, ASK, {"x_diogenes_wait": "0"}, 503),
        ("/api/cluster/scale", ORDER, {}, 202),
        (f"/api/models/{MODEL}/prewarm", None, {}, 202),
    ],
)
@story
async def test_who_does_not_wait_is_not_held_for_a_launch_that_the_task_goes_on_with(
    path: str, body: object, headers: dict[str, Any], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, key = await virtual()
    world.stage.start_s = 60
    slowed(world, 8)
    release = world.fence.release

    async def slowly(term: Term) -> None:
        await asyncio.sleep(CUT_OFF_S / 4)
        await release(term)

    monkeypatch.setattr(world.fence, "release", slowly)
    began = world.clock()
    answer = await call(world.app(), "POST", path, key=key, body=body, **headers)
    assert answer.status == status
    assert world.clock() - began <= Pace.launch_s + CUT_OFF_S / 2
    assert await world.fence.seen_at() == 0.0  # let go of, before the process stands still
    (intent,) = world.launches.rows.values()
    await asyncio.sleep(60)
    task = ControlPlane(world.settings, world.outside, clock=world.clock)
    assert await task.reconciler.once()
    assert [launch.token for launch in world.cloud.launches] == [intent.token]
    assert [node.state in STARTING for node in await world.nodes.list()] == [True]
    assert (world.stage.desired, world.launches.rows) == (1, {})
    assert world.models.rows[MODEL].refusal is None


@story
async def test_a_node_that_speaks_before_its_launch_was_heard_of_is_paid_for_by_who_asked() -> None:
    world, key = await virtual()
    world.stage.start_s = 60
    slowed(world, 8)
    await call(world.app(), "POST", CHAT, key=key, body=ASK, x_diogenes_wait="0")
    await asyncio.sleep(50)
    (intent,) = world.launches.rows.values()
    (instance,) = (one for group in await world.cloud.groups() for one in group.instances)
    now = world.clock()
    told = Node(instance.id, MODEL, NodeState.BOOTING, GROUP.name, "a", "g6.xlarge", "on-demand", now, now + 300)
    world.nodes.rows[instance.id] = replace(told, heartbeat_at=now)
    task = ControlPlane(world.settings, world.outside, clock=world.clock)
    assert await task.reconciler.once()
    (node,) = await world.nodes.list()
    assert (node.cause, node.launched_at) == (intent.cause, now)
    assert node.micro_usd_per_hour > 0
    assert (len(world.cloud.launches), world.launches.rows) == (1, {})


@story
async def test_an_epoch_that_cannot_be_let_go_of_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world, key = await virtual()
    slowed(world, 8)

    monkeypatch.setattr(world.fence, "release", lambda _: asyncio.Event().wait())
    began = world.clock()
    answer = await call(world.app(), "POST", CHAT, key=key, body=ASK, x_diogenes_wait="0")
    assert answer.status == 503
    assert world.clock() - began <= Pace.launch_s + CUT_OFF_S + 0.1
