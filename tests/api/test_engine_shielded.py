"""Of an engine, only the inference routes can be reached from outside, however a path is written."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.asking import ASK, CHAT, awake, engine_of
from tests.stories.virtual import story
from tests.stories.world import World

ENGINE_ROUTES = (
    "/invocations",
    "/sleep",
    "/wake_up",
    "/metrics",
    "/health",
    "/ping",
    "/load",
    "/version",
    "/tokenize",
    "/detokenize",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/reset_prefix_cache",
    "/collective_rpc",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/score",
    "/v1/rerank",
    "/v1/audio/transcriptions",
    "/v1/responses/resp_1/cancel",
)

TRICKS = (
    "/v1/../metrics",
    "/v1/%2e%2e/metrics",
    "/v1/chat/completions/",
    "/v1/chat/completions/../../../sleep",
    "/v1/chat/completions%00",
    "/v1/chat/completions%2f",
    "/v1/chat/completions;a=b",
    "/V1/chat/completions",
    "//v1/chat/completions",
    "//metrics",
    "/./metrics",
    "/v1/models/../../metrics",
    "/v1\\chat\\completions",
)


async def answered(world: World, method: str, target: str) -> int:
    """The status of a request whose target goes out exactly as it is written here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    body = b'{"model": "org/model", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}'
    head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.api_key}\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_else_of_an_engine_can_be_reached(method: str) -> None:
    @story
    async def shielded() -> None:
        async with awake() as world:
            before = list(engine_of(world).requests)
            statuses = {target: await answered(world, method, target) for target in (*ENGINE_ROUTES, *TRICKS)}
            assert {target: status for target, status in statuses.items() if status not in (400, 404, 405)} == {}
            assert engine_of(world).requests == before

    shielded()


@story
async def test_an_absolute_target_and_a_query_reach_nothing_else_either() -> None:
    async with awake() as world:
        for target in ("http://127.0.0.1:8000/metrics", "/metrics?x=/v1/chat/completions", "*"):
            assert await answered(world, "POST", target) in (400, 404, 405)
        assert len(engine_of(world).requests) == 1


@story
async def test_the_engine_is_asked_at_the_same_path_without_the_clients_headers_or_query() -> None:
    async with awake() as world, world.http(x_secret="s", cookie="c=1") as http:
        assert (await http.post(f"{CHAT}?api-version=2024", json=dict(ASK))).status_code == 200
        assert engine_of(world).requests[-1] == ASK


@story
async def test_a_websocket_is_refused() -> None:
    async with awake() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        head = "GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        writer.write(f"{head}sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        assert int((await reader.readline()).split(b" ")[1]) in (400, 401, 403, 404, 426)
        writer.close()
