"""Why a model cannot start reaches those who wait, and is not asked of AWS again and again."""

from __future__ import annotations

import asyncio

import openai
import pytest

from control_plane.errors import LaunchMisconfigured, NoCapacity, QuotaExceeded
from control_plane.hub import Access
from control_plane.policy import MISHAPS_IN_A_ROW
from gpu_node.protocol import Failure
from tests.stories.clients import ASK, answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

GROUP = f"group-{MODEL}"
FULL = NoCapacity("InsufficientInstanceCapacity", "We currently do not have sufficient g5.xlarge capacity.")
SMALL = QuotaExceeded("VcpuLimitExceeded", "Your current vCPU limit is 0.")


def refuse(world: World, error: NoCapacity | QuotaExceeded | LaunchMisconfigured, zones: str = "ab") -> None:
    for zone in zones:
        world.cloud.refusals[(GROUP, zone)] = error


@story
async def test_when_one_zone_has_none_the_next_is_tried() -> None:
    async with deployment() as world, world.openai() as client:
        refuse(world, FULL, "a")
        assert await answer(client) == "Hello there!"
        assert [launch.zone for launch in world.cloud.launches] == ["a", "b"]


@story
async def test_no_capacity_anywhere_is_told_within_seconds_with_its_true_status() -> None:
    async with deployment() as world, world.openai() as client:
        refuse(world, FULL)
        started = world.clock()
        for ask in (answer, streamed):
            with pytest.raises(openai.InternalServerError, match=r"no g5\.xlarge to give now") as raised:
                await ask(client)
            assert (raised.value.status_code, raised.value.code) == (503, "no_gpu_capacity")
            assert raised.value.response.headers["x-should-retry"] == "false"
            assert "retry-after" not in raised.value.response.headers
        assert world.clock() - started < 5
        assert len(world.cloud.launches) == 2  # each zone once: the second question was answered from memory


@story
async def test_after_the_memory_of_a_refusal_a_new_question_tries_again() -> None:
    async with deployment() as world, world.openai() as client:
        refuse(world, FULL)
        with pytest.raises(openai.InternalServerError):
            await answer(client)
        world.cloud.refusals.clear()
        await asyncio.sleep(100)
        assert await answer(client) == "Hello there!"


@story
async def test_a_quota_that_is_too_small_is_named_with_what_to_do() -> None:
    async with deployment() as world, world.openai() as client:
        refuse(world, SMALL)
        with pytest.raises(openai.PermissionDeniedError, match="L-DB2E81BA") as raised:
            await answer(client)
        assert raised.value.code == "gpu_quota_exceeded"
        assert len(world.cloud.launches) == 1  # no other zone can help


@story
async def test_a_passing_failure_of_a_start_is_tried_again_once_without_the_client_noticing() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.failure = Failure("engine_crashed", "The engine crashed.")
        waiting = asyncio.create_task(answer(client))
        await asyncio.sleep(50)
        world.boot.failure = None
        assert await waiting == "Hello there!"
        assert len(world.cloud.launches) == 2


@story
async def test_two_permanent_failures_in_a_row_stop_further_tries_until_somebody_asks_by_hand() -> None:
    async with deployment() as world, world.openai() as client, world.http() as http:
        world.boot.failure = Failure("gated_model", "The model is gated.", "Ask for access.", permanent=True)
        for wait in (100, 1000):
            with pytest.raises(openai.APIError, match="gated"):
                await streamed(client)
            await asyncio.sleep(wait)
        with pytest.raises(openai.PermissionDeniedError, match="POST /api/cluster/scale"):
            await answer(client)
        assert len(world.cloud.launches) == 2
        status = (await http.get(f"/api/models/{MODEL}")).json()
        assert (status["status"], status["failure"]["code"]) == ("failed", "gated_model")
        world.boot.failure = None
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1})
        await world.until_ready()
        assert await answer(client) == "Hello there!"


@story
async def test_a_refused_launch_between_two_failed_starts_gives_no_third_try() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.failure = Failure("gated_model", "The model is gated.", "Ask for access.", permanent=True)
        with pytest.raises(openai.APIError, match="gated"):
            await streamed(client)
        await asyncio.sleep(100)
        refuse(world, SMALL)
        with pytest.raises(openai.PermissionDeniedError, match="L-DB2E81BA"):
            await answer(client)
        world.cloud.refusals.clear()
        await asyncio.sleep(1000)
        with pytest.raises(openai.APIError, match="gated"):
            await streamed(client)
        await asyncio.sleep(1000)
        asked = len(world.cloud.launches)
        with pytest.raises(openai.PermissionDeniedError, match="2 times in a row"):
            await answer(client)
        assert len(world.cloud.launches) == asked


@story
async def test_passing_failures_are_tried_again_ever_more_rarely() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.failure = Failure("node_lost", "The instance went away.")
        for launches, wait in ((2, 91), (3, 361), (4, 1441)):
            with pytest.raises(openai.APIError, match="in a row: the next try"):
                await streamed(client)
            assert len(world.cloud.launches) == launches
            with pytest.raises(openai.InternalServerError, match="the next try is possible in"):
                await answer(client)
            await asyncio.sleep(wait)
        world.boot.failure = None
        assert await answer(client) == "Hello there!"


@story
async def test_passing_failures_without_end_stop_the_tries_until_a_person_asks() -> None:
    async with deployment() as world, world.openai() as client, world.http() as http:
        world.boot.failure = Failure("hub_unreachable", "The hub cannot be reached.")
        for _ in range(5):
            with pytest.raises(openai.APIError):
                await streamed(client)
            await asyncio.sleep(4000)
        assert len(world.cloud.launches) == MISHAPS_IN_A_ROW
        with pytest.raises(openai.PermissionDeniedError, match="somebody wakes it with POST"):
            await answer(client)
        assert len(world.cloud.launches) == MISHAPS_IN_A_ROW
        world.boot.failure = None
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1})
        assert await answer(client) == "Hello there!"


@story
async def test_a_changed_configuration_forgives_failures() -> None:
    async with deployment() as world, world.openai() as client, world.http() as http:
        world.boot.failure = Failure("out_of_gpu_memory", "It does not fit.", permanent=True)
        with pytest.raises(openai.APIError):
            await streamed(client)
        world.boot.failure = None
        patched = await http.patch(f"/api/models/{MODEL}", json={"vllmArgs": "--max-model-len 4096"})
        assert patched.json()["effective"]["vllmArgs"] == "--max-model-len 4096"
        assert await answer(client) == "Hello there!"


@story
async def test_an_instance_whose_agent_never_speaks_is_given_up_and_replaced() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.never = True
        waiting = asyncio.create_task(answer(client))
        await asyncio.sleep(200)
        world.boot.never = False
        assert await waiting == "Hello there!"
        await asyncio.sleep(10)
        assert len(world.living) == 1


@story
async def test_a_cancelled_start_is_told_to_those_who_wait_and_costs_no_more() -> None:
    async with deployment() as world, world.http() as http:
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=ASK))
        await asyncio.sleep(10)
        cancelled = await http.post(f"/api/models/{MODEL}/cancel")
        assert cancelled.status_code == 202
        reply = await waiting
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "start_cancelled")
        assert reply.headers["x-should-retry"] == "false"
        await world.until_gone(30)


@story
async def test_a_misconfigured_launch_says_so_and_is_not_retried_by_clients() -> None:
    async with deployment() as world, world.openai() as client:
        refuse(world, LaunchMisconfigured("ValidationError", "The launch template does not exist."))
        with pytest.raises(openai.PermissionDeniedError, match="launch template does not exist") as raised:
            await answer(client)
        assert raised.value.code == "launch_misconfigured"


@story
async def test_a_cancelled_start_is_told_to_a_client_that_comes_back_by_itself_and_starts_nothing() -> None:
    async with deployment() as world, world.openai() as client, world.http() as http:
        world.boot.load_s = 200
        waiting = asyncio.create_task(answer(client))
        await asyncio.sleep(60)  # white space has gone out: the client's own retry must hear why its body was cut
        await http.post(f"/api/models/{MODEL}/cancel")
        with pytest.raises(openai.InternalServerError, match="cancelled by hand") as raised:
            await waiting
        assert raised.value.code == "start_cancelled"
        assert len(world.cloud.launches) == 1
        await world.until_gone(30)
        await asyncio.sleep(10)  # longer than an idle connection is kept: one that closes just now makes a retry
        world.boot.load_s = 10
        assert await answer(client) == "Hello there!"  # the same question, asked anew, is meant


@story
async def test_a_gated_model_is_told_before_a_gpu_is_paid_for_and_starts_once_its_terms_are_accepted() -> None:
    async with deployment() as world, world.openai() as client:
        world.access = Access.GATED
        started = world.clock()
        for ask in (answer, streamed):
            with pytest.raises(openai.PermissionDeniedError, match="Accept its terms") as raised:
                await ask(client)
            assert raised.value.code == "gated_model"
        assert world.clock() - started < 10
        assert world.cloud.launches == []
        world.access = Access.READ
        await asyncio.sleep(100)
        assert await answer(client) == "Hello there!"


@story
async def test_a_hub_that_is_away_keeps_no_model_from_starting() -> None:
    async with deployment() as world, world.openai() as client:
        world.access = Access.UNREACHABLE
        assert await answer(client) == "Hello there!"
