"""Whatever AWS refuses a launch with, the client knows within 10 s what it was and what to do; a late instance goes."""

from __future__ import annotations

import asyncio

import openai
import pytest

from control_plane.errors import LaunchMisconfigured, LaunchRefused, NoCapacity, QuotaExceeded
from control_plane.ports import Instance, Launch, Wish
from tests.stories.clients import answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment

LIMIT_S = 10.0
CONSOLE = "console.aws.amazon.com/servicequotas/home/services/ec2/quotas/"

REFUSALS = [
    (NoCapacity("InsufficientInstanceCapacity", "None left."), 503, "no_gpu_capacity", "add instance types"),
    (NoCapacity("UnfulfillableCapacity", "None left."), 503, "no_gpu_capacity", "add instance types"),
    (NoCapacity("NeverHeardOf", "Something new."), 503, "no_gpu_capacity", "add instance types"),
    (QuotaExceeded("VcpuLimitExceeded", "Limit of 0."), 403, "gpu_quota_exceeded", f"{CONSOLE}L-DB2E81BA"),
    (LaunchMisconfigured("InvalidAMIID.NotFound", "No image."), 403, "launch_misconfigured", "pulumi up"),
    (LaunchMisconfigured("UnauthorizedOperation", "Denied."), 403, "launch_misconfigured", "doctor"),
]


@pytest.mark.parametrize("ask", [answer, streamed])
@pytest.mark.parametrize(("refusal", "status", "code", "fix"), REFUSALS, ids=lambda value: str(value)[:28])
@story
async def test_what_aws_refuses_reaches_the_client_within_seconds(
    ask: object, refusal: LaunchRefused, status: int, code: str, fix: str
) -> None:
    async with deployment() as world, world.openai() as client:
        for zone in "ab":
            world.cloud.refusals[f"group-{MODEL}", zone] = refusal
        began = world.clock()
        with pytest.raises(openai.APIStatusError) as raised:
            await ask(client)  # type: ignore[operator]
        assert world.clock() - began < LIMIT_S
        assert (raised.value.status_code, raised.value.code) == (status, code)
        assert fix in raised.value.message
        assert refusal.code in raised.value.message


@story
async def test_a_ladder_that_hangs_is_given_up_and_its_late_instance_is_taken_down() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        cloud, asked = world.cloud, []

        async def hang(launch: Launch) -> Instance:
            asked.append(launch)
            await asyncio.sleep(10_000)
            raise AssertionError

        late = cloud.launch
        cloud.launch = hang  # type: ignore[method-assign]
        with pytest.raises(openai.APIError, match="did not say in time") as raised:
            await streamed(client)
        assert raised.value.code == "launch_unanswered"
        assert "on-demand in a: no answer" in raised.value.message
        assert len(asked) == 1
        cloud.launch = late  # type: ignore[method-assign]
        await cloud.launch(asked[0])  # what AWS began comes to its end
        assert len(world.living) == 1
        await world.until_gone(60)
        assert world.launches.rows == {}
        await asyncio.sleep(100)
        assert await answer(client) == "Hello there!"  # and the next question starts one


@story
async def test_a_ladder_under_way_goes_no_further_once_another_reconciler_acts() -> None:
    async with deployment() as world:
        asked = list[str]()

        async def refuse(launch: Launch) -> Instance:
            asked.append(launch.zone)
            await world.fence.take("another")  # while AWS thinks about it
            raise NoCapacity("InsufficientInstanceCapacity", "None left.")

        world.cloud.launch = refuse  # type: ignore[method-assign]
        now = world.clock()
        await world.wishes.ask(Wish(MODEL, 1, now + 300, "ann@example.com", now))
        await asyncio.sleep(20)  # within which the other one is not taken for gone
        assert asked == ["a"]
        assert world.launches.rows == {}
