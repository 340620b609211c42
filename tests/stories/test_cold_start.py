"""What a client sees while a model wakes."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import openai
import pytest

from control_plane.boots import Boot
from gpu_node.protocol import Failure
from tests.stories.clients import ASK, answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment


@story
async def test_listing_models_starts_nothing() -> None:
    async with deployment() as world, world.openai() as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        await asyncio.sleep(60)
        assert not world.cloud.launches


@story
async def test_a_stock_client_gets_its_stream_from_a_cold_model() -> None:
    async with deployment() as world, world.openai() as client:
        assert await streamed(client) == "Hello there!"
        assert len(world.cloud.launches) == 1


@story
async def test_a_stock_client_gets_its_answer_from_a_cold_model() -> None:
    async with deployment() as world, world.openai() as client:
        assert await answer(client) == "Hello there!"


@story
async def test_a_start_of_nine_minutes_is_bridged_for_stock_clients() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.load_s = 540
        assert set(await asyncio.gather(streamed(client), answer(client))) == {"Hello there!"}
        assert len(world.cloud.launches) == 1


@story
async def test_comments_come_first_and_then_only_the_engine_speaks() -> None:
    async with deployment() as world, world.http() as http:
        async with http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as reply:
            lines = [line async for line in reply.aiter_lines() if line]
        comments = [line for line in lines if line.startswith(":")]
        assert comments[0].startswith(f": diogenes model={MODEL} phase=")
        assert any("phase=load" in line and "elapsed=" in line for line in comments)
        assert lines[len(comments) + 1 :] == [line for line in lines[len(comments) + 1 :] if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        assert reply.headers["x-accel-buffering"] == "no"
        assert int(reply.headers.get("x-diogenes-cold-start-ms", 0)) == 0  # the head was gone before the wait ended


@story
async def test_silences_stay_well_under_what_the_edge_allows() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.load_s = 300
        for stream in (True, False):
            times = [world.clock()]
            async with http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": stream}) as reply:
                async for _ in reply.aiter_raw():
                    times.append(world.clock())
            assert max(b - a for a, b in pairwise(times)) <= 26
            await world.until_gone(700)


@story
async def test_the_client_that_counts_chunks_gets_one_every_forty_seconds() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.load_s = 200
        empty = []
        async with http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as reply:
            async for line in reply.aiter_lines():
                if "diogenes-wait" in line:
                    empty.append(json.loads(line[6:])["choices"][0]["delta"])
        assert len(empty) == 5
        assert set(map(str, empty)) == {"{'content': ''}"}


@story
async def test_concurrent_first_requests_cause_one_start() -> None:
    async with deployment() as world, world.openai() as client:
        answers = await asyncio.gather(*(answer(client) for _ in range(5)), *(streamed(client) for _ in range(5)))
        assert answers == ["Hello there!"] * 10
        assert len(world.cloud.launches) == 1


@story
async def test_an_answer_that_waited_silently_says_how_long_and_on_which_node() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.machine_s, world.boot.load_s = 5, 10
        reply = await http.post("/v1/chat/completions", json=ASK)
        assert reply.status_code == 200
        assert 15_000 <= int(reply.headers["x-diogenes-cold-start-ms"]) <= 17_000
        assert reply.headers["x-diogenes-node"] == world.living[0]
        assert reply.headers["x-request-id"].startswith("req_")
        again = await http.post("/v1/chat/completions", json=ASK)
        assert "x-diogenes-cold-start-ms" not in again.headers


@story
async def test_a_javascript_client_is_sent_away_to_come_back_and_at_last_padded() -> None:
    async with deployment() as world, world.http(x_stainless_lang="js") as http:
        world.boot.load_s = 150
        first = await http.post("/v1/chat/completions", json=ASK)
        assert (first.status_code, first.headers["x-should-retry"]) == (503, "true")
        assert int(first.headers["retry-after"]) <= 59
        assert first.json()["error"]["code"] == "model_starting"
        second = await http.post("/v1/chat/completions", json=ASK)
        assert second.status_code == 503
        third = await http.post("/v1/chat/completions", json=ASK)
        assert third.status_code == 200
        assert third.text.startswith("\n")
        assert third.json()["choices"][0]["message"]["content"] == "Hello there!"
        assert len(world.cloud.launches) == 1


@story
async def test_a_wait_that_began_at_the_night_watch_ends_when_it_was_to_end() -> None:
    async with deployment() as world, world.http(x_diogenes_wait="60") as http:
        began = world.clock()
        end = {"diogenes_wait_until": str(int(began) + 10)}
        reply = await http.post("/v1/chat/completions", json=ASK, params=end)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_starting")
        assert world.clock() - began < 12


@story
async def test_a_client_may_choose_not_to_wait() -> None:
    async with deployment() as world, world.http(x_diogenes_wait="0") as http:
        reply = await http.post("/v1/chat/completions", json=ASK)
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "model_starting"
        assert reply.json()["error"]["eta_s"] is None
        assert 1 <= int(reply.headers["retry-after"]) <= 59
        await world.until_ready()
        await asyncio.sleep(1)
        assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200


@story
async def test_a_key_may_choose_for_all_its_requests_not_to_wait() -> None:
    async with deployment() as world, world.http() as http:
        made = (await http.post("/api/keys", json={"name": "ladder", "wait_s": 0})).json()
        world.api_key = made["key"]
        async with world.http() as impatient, world.http(x_diogenes_wait="600") as patient:
            refused = await impatient.post("/v1/chat/completions", json=ASK)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_starting")
            assert (await patient.post("/v1/chat/completions", json=ASK)).status_code == 200


@story
async def test_the_estimate_is_the_median_of_earlier_starts() -> None:
    async with deployment() as world, world.http(x_diogenes_wait="0") as http:
        for seconds in (50.0, 70.0, 400.0):
            await world.models.started(MODEL, Boot(seconds))
        await asyncio.sleep(6)
        error = (await http.post("/v1/chat/completions", json=ASK)).json()["error"]
        assert error["eta_s"] == 70.0


@story
async def test_a_wait_is_bounded_and_says_how_far_the_start_has_come() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.load_s = 1000
        reply = await http.post("/v1/chat/completions", json=ASK)
        assert reply.json()["error"]["code"] == "start_timeout"
        assert "phase=load" in reply.json()["error"]["message"]
        async with http.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as streamed_reply:
            data = [line async for line in streamed_reply.aiter_lines() if line.startswith("data: ")]
        assert (data[-1], len(world.cloud.launches)) == ("data: [DONE]", 1)


@story
async def test_too_many_waiters_are_sent_away() -> None:
    async with deployment() as world, world.http() as http:
        asking = [asyncio.create_task(http.post("/v1/chat/completions", json=ASK)) for _ in range(64)]
        await asyncio.sleep(5)
        one_more = await http.post("/v1/chat/completions", json=ASK)
        assert (one_more.status_code, one_more.json()["error"]["code"]) == (429, "queue_full")
        assert int(one_more.headers["retry-after"]) > 0
        assert [reply.status_code for reply in await asyncio.gather(*asking)] == [200] * 64


@story
async def test_when_the_last_waiter_hangs_up_the_start_is_cancelled_after_a_grace() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.load_s = 500
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=ASK))
        await asyncio.sleep(60)
        asking.cancel()
        await asyncio.sleep(60)
        assert world.living  # SDKs come back up to a minute later
        assert await world.until_gone(150) > 30


@story
async def test_a_failure_after_the_200_is_raised_by_a_streaming_client_with_its_message() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.failure = Failure(
            "out_of_gpu_memory", "The model does not fit.", "Use a larger one.", permanent=True
        )
        with pytest.raises(openai.APIError, match=r"does not fit\. Use a larger one"):
            await streamed(client)


@story
async def test_after_white_space_a_python_client_comes_back_by_itself_for_the_real_status() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.failure = Failure("gated_model", "The model is gated.", "Ask for access.", permanent=True)
        with pytest.raises(openai.PermissionDeniedError, match="gated") as raised:
            await answer(client)
        assert raised.value.code == "gated_model"
        assert len(world.cloud.launches) == 1


@story
async def test_after_white_space_a_person_with_curl_reads_the_error() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.failure = Failure("gated_model", "The model is gated.", "Ask for access.", permanent=True)
        reply = await http.post("/v1/chat/completions", json=ASK)
        assert reply.status_code == 200
        assert reply.json()["error"]["code"] == "gated_model"


@story
async def test_an_anthropic_stream_is_kept_alive_and_fails_in_its_own_words() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.failure = Failure("gated_model", "The model is gated.", permanent=True)
        world.boot.load_s = 60
        body = {**ASK, "max_tokens": 10, "stream": True}
        async with http.stream("POST", "/v1/messages", json=body) as reply:
            text = (await reply.aread()).decode()
        assert "event: ping\n" in text
        assert text.endswith("\n\n")
        assert "event: error\ndata: {" in text
        assert json.loads(text.split("event: error\ndata: ")[1])["error"]["type"] == "permission_error"
