"""What tests of the HTTP surface share: a model that is awake, and what a refusal must look like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from control_plane.settings import Settings
from tests.stories.engine import Engine
from tests.stories.world import MODEL, World, deployment

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
HELLO = [{"role": "user", "content": "hi"}]
ASK: Mapping[str, Any] = {"model": MODEL, "messages": HELLO}

GOOD_BODIES: Mapping[str, Mapping[str, Any]] = {
    CHAT: ASK,
    "/v1/completions": {"model": MODEL, "prompt": "Once"},
    "/v1/embeddings": {"model": MODEL, "input": ["a", "b"]},
    "/v1/responses": {"model": MODEL, "input": "hi"},
    MESSAGES: {"model": MODEL, "messages": HELLO, "max_tokens": 5},
}
"""A body that each inference route lets in."""


@asynccontextmanager
async def awake(settings: Settings | None = None, **model: Any) -> AsyncIterator[World]:
    """A deployment that has answered once: one node runs."""
    async with deployment(settings, **model) as world, world.http() as http:
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200
        yield world


def engine_of(world: World) -> Engine:
    """The engine of the only node."""
    (engine,) = world.engines.values()
    return engine


def refusal(reply: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The error object of a refusal in OpenAI's shape, checked for all that every refusal has."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    if code is not None:
        assert error["code"] == code
    return error


def anthropic_refusal(reply: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The same in Anthropic's shape."""
    assert reply.status_code == status, reply.text
    assert reply.headers["x-request-id"].startswith("req_")
    body = reply.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["error"]["message"]
    return dict(body["error"])


def nothing_happened(world: World) -> bool:
    """Nothing was wished, intended or launched."""
    return not (world.wishes.rows or world.launches.rows or world.cloud.launches)
