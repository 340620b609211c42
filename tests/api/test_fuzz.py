"""Arbitrary bodies and headers: always a refusal that can be read, never a launch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.dialect import DIALECTS
from tests.api.asking import GOOD_BODIES, MESSAGES, nothing_happened
from tests.stories.virtual import VirtualLoop
from tests.stories.world import MODEL, World, deployment

T = TypeVar("T")

PATHS = st.sampled_from(sorted(DIALECTS))
WORDS = st.sampled_from(["model", "messages", "prompt", "input", "stream", "stream_options", "include_usage", "usage"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(MODEL),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)
HEADER_VALUES = st.binary(max_size=40).map(lambda raw: bytes(b for b in raw if b > 32 and b != 127))
HEADER_NAMES = st.sampled_from(
    [
        "x-diogenes-wait",
        "x-stainless-lang",
        "x-stainless-retry-count",
        "user-agent",
        "x-api-key",
        "content-type",
        "cookie",
    ]
)


class Target:
    """One deployment that stays up for many examples; its clock runs only while one of them does."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self.world: World = self.run(self._stack.enter_async_context(deployment()))
        self.http: httpx.AsyncClient = self.run(self._stack.enter_async_context(self.world.http()))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._stack.aclose())


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        up = Target(runner)
        yield up
        up.close()


def let_in(path: str, body: Any) -> bool:
    """What is forwarded: a known model, its one needed field, and flags of the right type."""
    if not isinstance(body, dict) or body.get("model") != MODEL:
        return False
    needed = next(key for key in GOOD_BODIES[path] if key in ("messages", "prompt", "input"))
    kinds: tuple[type, ...] = (list,) if needed == "messages" else (list, str)
    return bool(body.get(needed)) and isinstance(body[needed], kinds) and body.get("stream") in (None, True, False)


def read_refusal(path: str, reply: httpx.Response) -> None:
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.headers["x-request-id"]
    error = reply.json()["error"]
    assert error["message"]
    assert error["type"]
    assert path == MESSAGES or {"param", "code"} <= set(error)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, body=st.binary(max_size=200))
def test_any_bytes_as_body(target: Target, path: str, body: bytes) -> None:
    read_refusal(path, target.run(target.http.post(path, content=body)))
    assert nothing_happened(target.world)


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(path=PATHS, body=JSON, base=st.booleans())
def test_any_json_as_body(target: Target, path: str, body: Any, base: bool) -> None:
    if base and isinstance(body, dict):  # near misses find more than noise
        body = {**GOOD_BODIES[path], **body}
    if let_in(path, body):
        body = {**body, "model": body["model"] + "x"}
    read_refusal(path, target.run(target.http.post(path, content=json.dumps(body))))
    assert nothing_happened(target.world)


@settings(max_examples=150)
@given(path=PATHS, headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=4), key=st.none() | HEADER_VALUES)
def test_any_header_values(target: Target, path: str, headers: dict[str, bytes], key: bytes | None) -> None:
    raw = [(name.encode(), value) for name, value in headers.items()]
    if key is not None:
        raw.append((b"authorization", b"Bearer " + key if key else b"Bearer"))
    body = {**GOOD_BODIES[path], "stream": "no"}
    read_refusal(path, target.run(target.http.post(path, content=json.dumps(body), headers=raw)))
    assert nothing_happened(target.world)
