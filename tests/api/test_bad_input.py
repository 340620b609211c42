"""What is refused before anything is spent: each refusal has its true status, a readable error, and no effect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from control_plane.dialect import DIALECTS
from control_plane.settings import Settings
from tests.api.asking import (
    ASK,
    CHAT,
    GOOD_BODIES,
    HELLO,
    MESSAGES,
    anthropic_refusal,
    nothing_happened,
    refusal,
)
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

OPENAI_ROUTES = [path for path in DIALECTS if path != MESSAGES]
NOT_OBJECTS = [b"", b" ", b"{", b"[]", b"null", b'"text"', b"7", b"\xff\xfe", b"{'model': 1}", b"[" * 5000, b'{"a":1}x']
WRONG_MODELS: list[Any] = [7, None, "", [], {}, True]
WRONG_STREAMS: list[Any] = ["true", 1, 0, [], {}]
WRONG_OPTIONS: list[Any] = ["usage", 1, True, []]


async def refused_all(world: World, http: httpx.AsyncClient, path: str, bodies: list[Any]) -> list[str | None]:
    """Post each body; each must be a 400. The parameters that the errors name."""
    replies = [await http.post(path, json=body) for body in bodies]
    if path == MESSAGES:
        return [anthropic_refusal(reply, 400, "invalid_request_error")["message"].split("`")[1] for reply in replies]
    return [refusal(reply, 400)["param"] for reply in replies]


@story
async def test_a_body_that_is_no_json_object_is_refused_on_every_route() -> None:
    async with deployment() as world, world.http() as http:
        for path in OPENAI_ROUTES:
            for body in NOT_OBJECTS:
                refusal(await http.post(path, content=body), 400, "invalid_json")
        for body in NOT_OBJECTS:
            anthropic_refusal(await http.post(MESSAGES, content=body), 400, "invalid_request_error")
        assert nothing_happened(world)


@story
async def test_what_is_missing_or_of_the_wrong_type_is_named() -> None:
    async with deployment() as world, world.http() as http:
        for path, good in GOOD_BODIES.items():
            (needed,) = {"messages", "prompt", "input"} & set(good)
            wrong_models = [{**good, "model": wrong} for wrong in WRONG_MODELS]
            assert set(await refused_all(world, http, path, wrong_models)) == {"model"}
            wrong_inputs: list[Any] = [{**good, needed: wrong} for wrong in WRONG_MODELS]
            assert set(await refused_all(world, http, path, wrong_inputs)) == {needed}
            without = [{key: value for key, value in good.items() if key != gone} for gone in ("model", needed)]
            assert await refused_all(world, http, path, without) == ["model", needed]
            wrong_streams = [{**good, "stream": wrong} for wrong in WRONG_STREAMS]
            assert set(await refused_all(world, http, path, wrong_streams)) == {"stream"}
        assert nothing_happened(world)


@story
async def test_stream_options_must_be_an_object() -> None:
    async with deployment() as world, world.http() as http:
        bodies = [{**ASK, "stream": True, "stream_options": wrong} for wrong in WRONG_OPTIONS]
        assert set(await refused_all(world, http, CHAT, bodies)) == {"stream_options"}
        assert nothing_happened(world)


@story
async def test_a_deeply_nested_body_is_no_fault_of_ours() -> None:
    async with deployment() as world, world.http(x_diogenes_wait="0") as http:
        deep = json.dumps({**ASK, "stream": True, "stream_options": {}, "tools": json.loads("[" * 300 + "]" * 300)})
        refusal(await http.post(CHAT, content=deep), 400, "invalid_json")
        assert nothing_happened(world)


@story
async def test_an_unknown_model_is_a_404_that_names_those_there_are() -> None:
    async with deployment() as world, world.http() as http:
        for path, good in GOOD_BODIES.items():
            for stream in (False, True):
                reply = await http.post(path, json={**good, "model": "org/modle", "stream": stream})
                if path == MESSAGES:
                    assert MODEL in anthropic_refusal(reply, 404, "not_found_error")["message"]
                else:
                    error = refusal(reply, 404, "model_not_found")
                    assert (error["param"], MODEL in error["message"]) == ("model", True)
        refusal(await http.get("/v1/models/org/modle"), 404, "model_not_found")
        assert nothing_happened(world)


@story
async def test_a_path_that_does_not_exist_is_a_404() -> None:
    async with deployment() as world, world.http() as http:
        for path in ("/v1", "/v1/", "/v1/chat", "/v2/models", "/favicon.ico", "/docs", "/api", "/api/nothing", "/.env"):
            refusal(await http.get(path), 404, "unknown_url")
            refusal(await http.post(path, json=dict(ASK)), 404, "unknown_url")
        assert nothing_happened(world)


@story
async def test_the_wrong_method_is_a_405_on_every_route() -> None:
    wrong = {
        "/v1/models": ("POST", "PUT", "DELETE", "PATCH"),
        f"/v1/models/{MODEL}": ("POST", "DELETE"),
        "/api/models": ("POST", "DELETE"),
        f"/api/models/{MODEL}": ("POST", "PUT", "DELETE"),
        f"/api/models/{MODEL}/cancel": ("PUT", "DELETE"),
        f"/api/models/{MODEL}/keep-awake": ("POST", "DELETE"),
        "/api/cluster": ("POST", "DELETE"),
        "/api/cluster/scale": ("GET", "PUT", "DELETE"),
        "/api/keys": ("PUT", "DELETE"),
        "/api/keys/0123": ("GET", "POST"),
        "/healthz": ("POST",),
        "/": ("POST", "DELETE"),
        **{path: ("GET", "PUT", "DELETE", "PATCH", "OPTIONS") for path in OPENAI_ROUTES},
    }
    async with deployment() as world, world.http() as http:
        for path, methods in wrong.items():
            for method in methods:
                refusal(await http.request(method, path, json=dict(ASK)), 405, "method_not_allowed")
        assert (await http.head(CHAT)).status_code == 405
        assert (await http.get(MESSAGES)).status_code == 405
        assert nothing_happened(world)


@story
async def test_a_body_that_is_too_large_is_refused_by_its_announced_length() -> None:
    async with deployment(Settings(max_body_bytes=1000)) as world, world.http() as http:
        for path in OPENAI_ROUTES:
            refusal(await http.post(path, content=b" " * 1001), 413, "request_too_large")
        anthropic_refusal(await http.post(MESSAGES, content=b" " * 1001), 413, "request_too_large")
        refusal(await http.post(CHAT, content=b" " * 1000), 400, "invalid_json")
        assert nothing_happened(world)


@story
async def test_a_chunked_body_is_refused_when_it_turns_out_too_large() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 20_000

    async with deployment(Settings(max_body_bytes=1_500_000)) as world, world.http() as http:
        refusal(await http.post(CHAT, content=chunks()), 413, "request_too_large")
        assert nothing_happened(world)


@pytest.mark.parametrize("wait", ["-1", "601", "1.5", "soon", "", "1e2", "0x1", "9" * 5000, "\u00b2"])
def test_a_wait_that_is_no_number_from_0_to_600_is_refused(wait: str) -> None:
    @story
    async def refused() -> None:
        async with deployment() as world, world.http() as http:
            headers = {b"x-diogenes-wait": wait.encode("latin-1")}
            refusal(await http.post(CHAT, json=dict(ASK), headers=headers), 400, "invalid_header")
            assert nothing_happened(world)

    refused()


@story
async def test_a_retry_count_that_is_no_number_counts_as_none() -> None:
    async with deployment() as world, world.http(x_stainless_lang="js", x_diogenes_wait="0") as http:
        for count in (b"9" * 5000, b"many", b"-1", b"\xb2"):
            reply = await http.post(CHAT, json=dict(ASK), headers={b"x-stainless-retry-count": count})
            refusal(reply, 503, "model_starting")


@story
async def test_the_openai_client_raises_the_class_that_fits() -> None:
    async with deployment(Settings(max_body_bytes=1000)) as world, world.openai() as client:
        create: Any = client.chat.completions.create
        with pytest.raises(openai.BadRequestError, match="messages"):
            await create(model=MODEL, messages="hi")
        with pytest.raises(openai.NotFoundError, match="org/modle") as unknown:
            await create(model="org/modle", messages=HELLO, stream=True)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError, match="org/modle"):
            await client.models.retrieve("org/modle")
        with pytest.raises(openai.APIStatusError, match="larger") as large:
            await create(model=MODEL, messages=[{"role": "user", "content": "x" * 1000}])
        assert large.value.status_code == 413
        with pytest.raises(openai.AuthenticationError, match="not a Diogenes API key"):
            await client.with_options(api_key="sk-proj-123").models.list()
        assert nothing_happened(world)


@story
async def test_the_anthropic_client_raises_the_class_that_fits() -> None:
    async with deployment() as world:
        async with anthropic.AsyncAnthropic(base_url=world.url, api_key=world.api_key) as client:
            create: Any = client.messages.create
            with pytest.raises(anthropic.NotFoundError, match="org/modle"):
                await create(model="org/modle", messages=HELLO, max_tokens=5)
            with pytest.raises(anthropic.BadRequestError, match="messages"):
                await create(model=MODEL, messages="hi", max_tokens=5)
            typo: Any = client.with_options(api_key="sk-ant-1").messages.create
            with pytest.raises(anthropic.AuthenticationError):
                await typo(model=MODEL, messages=HELLO, max_tokens=5)
        assert nothing_happened(world)
