"""What the janitor's tick launches, and what becomes of it when the round is cut off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import Unavailable
from control_plane.ports import Front, Launch, Wish
from gpu_node.protocol import Failure
from tests.night.deployment import GROUP, MODEL
from tests.night.test_janitor import cleaned, deployment, launched, wished
from tests.night.test_night import asleep, call


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
