"""AWS takes a Spot instance back: nothing new goes there, a replacement starts, and answers under way go on in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest

from control_plane.errors import NoCapacity
from control_plane.nodes import NodeId
from gpu_node.protocol import NodeState
from tests.api.asking import ASK, CHAT, HELLO
from tests.stories.clients import answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

WORDS = tuple(f"w{number} " for number in range(400))
TEXT = "".join(WORDS)


@asynccontextmanager
async def on_spot(market: str = "spot-then-on-demand") -> AsyncIterator[tuple[World, NodeId]]:
    """One Spot node has answered once; from now on an answer takes 400 s."""
    async with deployment(market=market) as world, world.http() as http:
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200
        world.behaviour.tokens, world.behaviour.token_s = WORDS, 1.0
        (node_id,) = world.living
        assert world.node(node_id).market == "spot"
        yield world, node_id


async def events(world: World, **asked: Any) -> list[dict[str, Any]]:
    """Every event of a streamed answer, in order; its end mark is checked."""
    async with world.http() as http, http.stream("POST", CHAT, json={**ASK, "stream": True, **asked}) as reply:
        assert reply.status_code == 200
        lines = [line.removeprefix("data: ") async for line in reply.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def used(world: World) -> tuple[int, int, int]:
    """Requests, prompt and completion tokens in the ledger."""
    rows = world.usage.rows.values()
    counters = ("requests", "prompt_tokens", "completion_tokens")
    requests, prompt, completion = (sum(getattr(row, counter) for row in rows) for counter in counters)
    return requests, prompt, completion


def text_of(told: list[dict[str, Any]]) -> str:
    return "".join(event["choices"][0]["delta"].get("content", "") for event in told if event.get("choices"))


@story
async def test_an_answer_that_the_notice_is_too_short_for_goes_on_elsewhere_as_one_stream() -> None:
    async with on_spot() as (world, node_id):
        asking = asyncio.create_task(events(world, stream_options={"include_usage": True}, max_tokens=1000))
        await asyncio.sleep(50)
        world.interrupt(node_id)
        told = await asking
        assert text_of(told) == TEXT
        assert {event["id"] for event in told} == {"chatcmpl-1"}
        assert [event["choices"][0]["delta"].get("role") for event in told if event["choices"]].count("assistant") == 1
        assert [event["choices"][0]["finish_reason"] for event in told if event["choices"]][-1] == "stop"
        usage = told[-1]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 400, 407)
        assert len(world.living) == 1
        assert world.living[0] != node_id
        assert world.replaced_by_group == []
        request = world.engines[world.living[0]].requests[-1]
        said = len(str(request["messages"][-1]["content"]).split())  # type: ignore[index]
        assert 140 < said < 160  # until shortly before AWS ended the node
        assert request["max_tokens"] == 1000 - (said - 1)  # the last one's space is still to be said


@story
async def test_usage_that_the_client_did_not_ask_for_is_counted_once_and_not_told() -> None:
    async with on_spot() as (world, node_id):
        await asyncio.sleep(10)
        before = used(world)
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(50)
        world.interrupt(node_id)
        assert not any("usage" in event for event in await asking)
        await asyncio.sleep(10)
        assert [after - known for after, known in zip(used(world), before, strict=True)] == [1, 7, 400]


@story
async def test_an_engine_that_says_it_was_shut_down_is_not_taken_at_its_word() -> None:
    """vLLM, told to end, sends an error and the end mark."""
    async with on_spot() as (world, node_id):
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(50)
        world.interrupt(node_id)
        await asyncio.sleep(20)
        world.behaviour.error_after = 75
        await asyncio.sleep(30)
        world.behaviour.error_after = None
        assert text_of(await asking) == TEXT


@story
async def test_the_replacement_is_taken_back_as_well_and_a_third_ends_the_answer() -> None:
    async with on_spot() as (world, node_id):
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(50)
        world.interrupt(node_id)
        await asyncio.sleep(150)
        (second,) = world.living
        world.interrupt(second, notice_s=60)
        assert text_of(await asking) == TEXT
        assert [launch.zone for launch in world.cloud.launches] == ["a", "b", "a"]  # never where AWS just took one back


@story
async def test_white_space_at_the_seam_is_neither_lost_nor_doubled() -> None:
    async with on_spot() as (world, node_id):
        world.behaviour.tokens = tuple(token for number in range(200) for token in (f"w{number}", "\n\n "))
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(50.5)
        world.interrupt(node_id, notice_s=100)
        assert text_of(await asking) == "".join(world.behaviour.tokens)


@story
async def test_an_answer_that_ends_within_the_notice_stays_where_it_is() -> None:
    async with on_spot() as (world, node_id):
        world.behaviour.tokens = WORDS[:60]
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(10)
        world.interrupt(node_id)
        assert text_of(await asking) == "".join(WORDS[:60])
        assert len(world.engines[node_id].requests) == 2
        await world.until_gone(420)  # the replacement was begun at once, and goes when nobody used it


@story
async def test_an_idle_node_is_not_replaced() -> None:
    async with on_spot() as (world, node_id):
        await asyncio.sleep(30)
        world.interrupt(node_id)
        await world.until_gone(15)
        assert len(world.cloud.launches) == 1
        assert world.replaced_by_group == []


@story
async def test_nothing_new_goes_to_a_node_that_aws_takes_back() -> None:
    async with on_spot() as (world, node_id):
        world.behaviour.tokens = WORDS[:90]
        streaming = asyncio.create_task(events(world))
        await asyncio.sleep(10)
        world.interrupt(node_id)
        await asyncio.sleep(6)
        assert world.node(node_id).state is NodeState.DRAINING
        assert len(world.cloud.launches) == 2  # at once
        asked = len(world.engines[node_id].requests)
        async with world.openai() as client:
            assert await answer(client) == "".join(WORDS[:90])
        assert len(world.engines[node_id].requests) == asked
        assert text_of(await streaming) == "".join(WORDS[:90])


@pytest.mark.parametrize(
    "bound",
    [{"logprobs": True}, {"n": 2}, {"response_format": {"type": "json_object"}}, {"tool_choice": "required"}],
    ids=lambda bound: next(iter(bound)),
)
@story
async def test_what_cannot_be_continued_ends_with_a_typed_error(bound: dict[str, Any]) -> None:
    async with on_spot() as (world, node_id):
        asking = asyncio.create_task(events(world, **bound))
        await asyncio.sleep(50)
        world.interrupt(node_id)
        told = await asking
        assert told[-1]["error"]["code"] == "spot_interrupted"
        assert text_of(told[:-1]) == "".join(WORDS[: len(told) - 1])
        assert len(told) > 165  # all that AWS let it say


@story
async def test_one_replacement_is_enough_however_short_the_idle_timeout() -> None:
    async with deployment(market="spot", idleTimeout=60) as world:
        world.boot.machine_s = world.boot.load_s = 5.0
        world.behaviour.tokens, world.behaviour.token_s = WORDS, 1.0
        asking = asyncio.create_task(events(world, logprobs=True))
        node_id = await world.until_ready()
        await asyncio.sleep(20)
        world.interrupt(node_id)
        assert (await asking)[-1]["error"]["code"] == "spot_interrupted"
        await world.until_gone(200)
        await asyncio.sleep(300)
        assert len(world.cloud.launches) == 2
        assert world.living == []


@story
async def test_an_answer_that_is_not_streamed_is_asked_for_anew() -> None:
    async with on_spot() as (world, node_id), world.http() as http:
        world.behaviour.first_token_s = 300
        asking = asyncio.create_task(http.post(CHAT, json={"model": MODEL, "messages": HELLO}))
        await asyncio.sleep(50)
        world.interrupt(node_id)
        await asyncio.sleep(130)
        world.behaviour.first_token_s = 1
        reply: httpx.Response = await asking
        assert reply.json()["choices"][0]["message"]["content"] == TEXT


@story
async def test_where_no_replacement_is_to_be_had_the_client_is_told_why() -> None:
    async with on_spot("spot") as (world, node_id):
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(50)
        for zone in "ab":
            world.cloud.refusals[f"group-{MODEL}-spot", zone] = NoCapacity("UnfulfillableCapacity", "None left.")
        world.interrupt(node_id)
        told = await asking
        assert told[-1]["error"]["code"] == "no_gpu_capacity"
        await asyncio.sleep(10)
        assert used(world)[0] == 2


@story
async def test_a_spot_node_that_dies_without_a_notice_is_continued_too() -> None:
    async with on_spot() as (world, node_id):
        asking = asyncio.create_task(events(world))
        await asyncio.sleep(50)
        world.kill_instance(node_id)
        assert text_of(await asking) == TEXT


@story
async def test_an_answer_that_lacked_only_its_end_gets_that_and_not_one_word_more() -> None:
    async with on_spot() as (world, node_id):
        asking = asyncio.create_task(events(world, stream_options={"include_usage": True}, max_tokens=30))
        await asyncio.sleep(50)  # this engine goes on beyond the limit: whatever is asked for now is too much
        world.kill_instance(node_id)
        told = await asking
        said = text_of(told)
        assert 40 < len(said.split()) < 60
        assert TEXT.startswith(said)
        assert [event["choices"][0]["finish_reason"] for event in told if event["choices"]][-1] == "length"
        assert told[-1]["usage"]["completion_tokens"] == len(said.split()) - 1  # of the last one a space was not sent
        assert world.engines[world.living[0]].requests[-1]["max_tokens"] == 1


@story
async def test_an_on_demand_node_that_dies_is_not() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        await answer(client)
        world.behaviour.tokens, world.behaviour.dies_after = WORDS, 100
        with pytest.raises(openai.APIError) as raised:
            await streamed(client)
        assert raised.value.code == "engine_lost"


@story
async def test_a_rebalance_recommendation_moves_routing_when_the_replacement_is_ready() -> None:
    async with on_spot() as (world, node_id):
        streaming = asyncio.create_task(events(world))
        await asyncio.sleep(10)
        world.recommend_rebalance(node_id)
        await asyncio.sleep(30)
        assert len(world.cloud.launches) == 2
        assert world.node(node_id).state is NodeState.READY  # it serves: nothing is certain
        second = asyncio.create_task(events(world))
        await asyncio.sleep(50)
        assert len(world.engines[node_id].requests) == 3
        assert world.node(node_id).state is NodeState.DRAINING
        assert text_of(await streaming) == TEXT
        assert text_of(await second) == TEXT


@story
async def test_a_recommendation_that_nothing_came_of_costs_nothing() -> None:
    async with on_spot() as (world, node_id):
        await asyncio.sleep(10)
        world.recommend_rebalance(node_id)
        await asyncio.sleep(200)
        assert world.living == [node_id]
        assert len(world.cloud.launches) == 1
        await world.until_gone(150)
