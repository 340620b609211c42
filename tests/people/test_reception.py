"""What is left to write about people: by a loop of its own, and at a task's end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.app import LAST_EVENTS_S, LAST_FLUSH_S, ControlPlane
from control_plane.errors import InvalidApiKey, Unavailable
from tests.night.deployment import MODEL, Deployment
from tests.stories.virtual import story


async def task(deployment: Deployment) -> tuple[ControlPlane, dict[bytes, bytes]]:
    """And what somebody brings along who has a key."""
    await deployment.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g5.xlarge"]})
    plane = ControlPlane(deployment.settings, deployment.outside, clock=deployment.clock)
    key, _ = await plane.keys.create(email="ann@example.com", name="laptop")
    return plane, {b"authorization": f"Bearer {key}".encode()}


async def refused(plane: ControlPlane) -> None:
    with pytest.raises(InvalidApiKey):
        await plane.authenticator.admit({b"authorization": b"Bearer dio-nobody"}, "GET")


async def test_a_tasks_end_writes_when_keys_were_used_and_tells_who_was_turned_away() -> None:
    deployment = Deployment()
    plane, good = await task(deployment)
    async with plane.running():
        await plane.authenticator.admit(good, "GET")
        await refused(plane)
        plane.reception.tell_turned_away()
        await refused(plane)  # too early to be told by itself
    (row,) = deployment.keys.rows.values()
    assert row.last_used_at == deployment.clock()
    told = [event for event in deployment.events.kept if event.kind == "sign-in-refused"]
    assert [dict(event.data) for event in told] == [{"invalid_api_key": 1}] * 2


async def test_at_a_tasks_end_keys_that_cannot_be_written_cost_no_event() -> None:
    deployment = Deployment()
    plane, good = await task(deployment)
    async with plane.running():
        await plane.authenticator.admit(good, "GET")
        await refused(plane)
        deployment.keys.broken.fail("used", Unavailable("throttled"), times=10)
    assert len([event for event in deployment.events.kept if event.kind == "sign-in-refused"]) == 1


@story
async def test_at_a_tasks_end_an_epoch_that_cannot_be_let_go_of_costs_seconds_and_no_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ECS leaves ten seconds; a table that says nothing may take longer."""
    deployment = Deployment()
    plane, _ = await task(deployment)
    monkeypatch.setattr(deployment.fence, "release", lambda _: asyncio.Event().wait())
    ended = 0.0
    async with plane.running():
        await asyncio.sleep(1)  # it takes the epoch
        await refused(plane)
        ended = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - ended <= LAST_FLUSH_S + LAST_EVENTS_S
    assert len([event for event in deployment.events.kept if event.kind == "sign-in-refused"]) == 1


async def test_usage_that_cannot_be_written_does_not_keep_the_use_of_keys_from_being(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken() -> None:
        raise Unavailable("throttled")

    deployment = Deployment()
    deployment.settings = replace(deployment.settings, usage_flush_s=0)
    plane, good = await task(deployment)
    monkeypatch.setattr(plane.meter, "flush", broken)
    async with plane.running():
        await plane.authenticator.admit(good, "GET")
        for _ in range(50):
            await asyncio.sleep(0)
        (row,) = deployment.keys.rows.values()
        assert row.last_used_at == deployment.clock()
