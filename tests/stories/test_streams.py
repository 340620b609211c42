"""What happens to an answer on its way from the engine to the client, and when either of them goes away."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from typing import Any

import openai
import pytest

from tests.api.asking import ASK, CHAT, HELLO, awake, engine_of, refusal
from tests.stories.virtual import story
from tests.stories.world import MODEL, World

STREAM = {**ASK, "stream": True}
MB = 1024 * 1024


async def data_lines(world: World, body: dict[str, Any]) -> list[str]:
    """The ``data:`` lines of a streamed answer, comments left out."""
    async with world.http() as http, http.stream("POST", CHAT, json=body) as reply:
        assert reply.status_code == 200
        return [line.removeprefix("data: ") async for line in reply.aiter_lines() if line.startswith("data: ")]


async def told(client: openai.AsyncOpenAI) -> list[str]:
    """Each token that the client gets; raises what the client raises."""
    create: Any = client.chat.completions.create
    stream = await create(model=MODEL, messages=HELLO, stream=True)
    return [chunk.choices[0].delta.content async for chunk in stream if chunk.choices[0].delta.content]


async def silent_reader(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked for a stream and takes next to nothing of it until it is read from."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", world.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    body = json.dumps(STREAM).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.api_key}\r\ncontent-length: {len(body)}\r\n"
    )
    writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
    return reader, writer


@story
async def test_a_client_that_reads_nothing_stops_the_engine_and_loses_nothing() -> None:
    async with awake() as world:
        world.behaviour.tokens, world.behaviour.chunk_bytes = ("t",) * 800, 64 * 1024
        reader, writer = await silent_reader(world)
        await asyncio.sleep(100)
        held = engine_of(world).sent_bytes
        assert engine_of(world).streaming == 1
        assert (
            64 * 1024 <= held < 12 * MB
        )  # the kernel's buffers of two connections, and 64 KB of ours in each direction
        await asyncio.sleep(100)
        assert engine_of(world).sent_bytes == held
        received, tail = 0, b""
        while data := await reader.read(MB):
            received, tail = received + len(data), (tail + data)[-64:]
        assert received > 50 * MB
        assert b"data: [DONE]" in tail
        writer.close()


@story
async def test_a_client_that_reads_nothing_keeps_nobody_else_waiting() -> None:
    async with awake() as world:
        world.behaviour.tokens, world.behaviour.chunk_bytes = ("t",) * 800, 64 * 1024
        _, writer = await silent_reader(world)
        await asyncio.sleep(100)
        world.behaviour.tokens, world.behaviour.chunk_bytes = ("Hello",), 0
        world.behaviour.first_token_s = 100
        times = [world.clock()]
        async with world.http() as http, http.stream("POST", CHAT, json=STREAM) as reply:
            async for _line in reply.aiter_lines():
                times.append(world.clock())
        assert max(b - a for a, b in itertools.pairwise(times)) <= 12
        writer.transport.abort()


@story
async def test_a_hang_up_in_mid_stream_stops_the_engine_at_once() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.tokens, world.behaviour.token_s = ("t",) * 1000, 1.0
        async with http.stream("POST", CHAT, json=STREAM) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: "):
                    break
            assert engine_of(world).streaming == 1
        await asyncio.sleep(2)
        assert engine_of(world).streaming == 0


@story
async def test_a_hang_up_before_the_first_token_gives_the_lease_back() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.first_token_s = 100_000
        asking = asyncio.create_task(http.post(CHAT, json=ASK))
        await asyncio.sleep(5)
        asking.cancel()
        assert 290 <= await world.until_gone(320) <= 320


@story
async def test_an_engine_that_dies_in_mid_stream_ends_it_with_a_typed_error() -> None:
    async with awake() as world:
        world.behaviour.dies_after = 2
        lines = await data_lines(world, STREAM)
        error = json.loads(lines[-2])["error"]
        assert (lines[-1], error["code"], error["type"]) == ("[DONE]", "engine_lost", "server_error")
        assert set(error) == {"message", "type", "param", "code"}
        assert ["choices" in line for line in lines[:-2]] == [True, True]


@story
async def test_the_openai_client_raises_when_the_engine_dies_in_mid_stream() -> None:
    async with awake() as world, world.openai() as client:
        world.behaviour.dies_after = 2
        with pytest.raises(openai.APIError, match="stopped in the middle") as raised:
            await told(client)
        assert raised.value.code == "engine_lost"
        world.behaviour.dies_after = None
        assert await told(client) == ["Hello", " there", "!"]


@story
async def test_an_engine_that_dies_before_its_first_byte_costs_the_client_nothing() -> None:
    async with awake() as world, world.openai() as client:
        world.behaviour.dies_after, world.behaviour.first_token_s = 0, 5
        asking = asyncio.create_task(told(client))
        await asyncio.sleep(2)
        world.behaviour.dies_after = None
        world.kill_engine(world.living[0])
        assert await asking == ["Hello", " there", "!"]
        assert len(world.cloud.launches) == 2


@story
async def test_an_engine_that_refuses_connections_is_replaced_without_an_error() -> None:
    async with awake() as world, world.openai(max_retries=0) as client:
        dead = world.living[0]
        world.kill_engine(dead)
        assert await told(client) == ["Hello", " there", "!"]
        assert len(world.cloud.launches) == 2
        assert dead in world.cloud.terminated


@story
async def test_the_engines_own_error_event_is_raised_by_the_openai_client() -> None:
    async with awake() as world, world.openai() as client:
        world.behaviour.error_after = 1
        with pytest.raises(openai.APIError, match="boom"):
            await told(client)
        lines = await data_lines(world, STREAM)
        assert json.loads(lines[-2]) == {
            "error": {"message": "boom", "type": "server_error", "param": None, "code": "engine_error"}
        }
        assert lines[-1] == "[DONE]"


@story
async def test_usage_is_asked_for_counted_and_taken_out_again() -> None:
    async with awake() as world:
        lines = await data_lines(world, STREAM)
        assert not any("usage" in line for line in lines)
        assert engine_of(world).requests[-1]["stream_options"] == {"include_usage": True}
        await asyncio.sleep(6)
        (tally,) = world.usage.rows.values()
        counted = (tally.requests, tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens)
        assert counted == (2, 14, 4, 6)  # this one, and the one that woke the model
        assert (tally.owner, tally.model) == ("ann@example.com", MODEL)


@story
async def test_usage_that_the_client_asked_for_is_left_in() -> None:
    async with awake() as world, world.openai() as client:
        create: Any = client.chat.completions.create
        stream = await create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True})
        assert [chunk.usage.total_tokens async for chunk in stream if chunk.usage] == [10]


@story
async def test_other_stream_options_are_kept_beside_ours() -> None:
    async with awake() as world:
        await data_lines(world, {**STREAM, "stream_options": {"continuous_usage_stats": False}})
        assert engine_of(world).requests[-1]["stream_options"] == {
            "continuous_usage_stats": False,
            "include_usage": True,
        }


@pytest.mark.parametrize(
    ("status", "raised"),
    [(400, openai.BadRequestError), (422, openai.UnprocessableEntityError), (404, openai.NotFoundError)],
)
def test_a_refusal_of_the_engine_keeps_its_status_and_its_words(status: int, raised: type[openai.APIError]) -> None:
    @story
    async def refused() -> None:
        async with awake() as world, world.openai() as client:
            world.behaviour.status = status
            world.behaviour.error = {"error": {"message": "too long", "type": "X", "param": "messages", "code": status}}
            with pytest.raises(raised, match="too long") as error:
                await told(client)
            assert (error.value.param, error.value.type) == ("messages", "invalid_request_error")
            assert len(world.living) == 1

    refused()


@story
async def test_a_flat_refusal_is_put_into_the_shape_that_clients_read() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.status = 400
        world.behaviour.error = {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}
        error = refusal(await http.post(CHAT, json=ASK), 400)
        assert (error["message"], error["code"]) == ("too long", None)


@story
async def test_a_prompt_that_is_too_long_has_the_code_that_clients_act_on() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.status = 400
        world.behaviour.error = {"error": {"message": "too long", "param": "input_tokens", "code": 400}}
        refusal(await http.post(CHAT, json=ASK), 400, "context_length_exceeded")


@story
async def test_a_route_that_the_engine_lacks_is_named() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.status, world.behaviour.error = 404, {"detail": "Not Found"}
        error = refusal(
            await http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}), 404, "unsupported_route"
        )
        assert error["message"] == f"{MODEL} does not offer /v1/embeddings."


@story
async def test_an_engine_whose_queue_is_full_sends_the_client_away_to_come_back() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.status, world.behaviour.error = 503, {"error": "busy"}
        reply = await http.post(CHAT, json=ASK)
        assert refusal(reply, 503)["message"] == "busy"
        assert reply.headers["retry-after"] == "2"


@story
async def test_a_500_is_tried_once_more_and_then_told() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.status, world.behaviour.error = 500, {"error": {"message": "CUDA error"}}
        before = len(engine_of(world).requests)
        assert refusal(await http.post(CHAT, json=ASK), 500, "engine_error")["message"] == "CUDA error"
        assert len(engine_of(world).requests) - before == 2
        assert len(world.cloud.launches) == 1
