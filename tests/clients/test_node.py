"""OpenAI's client for Node against a server that does on purpose what ours does: redirect, refuse, hold, fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.clients import node
from tests.clients.node import NodeCrashed, ask_node, node_missing
from tests.desk.story import Answer

MISSING = node_missing()
needs_node = pytest.mark.skipif(bool(MISSING), reason=MISSING)

MODEL = "org/model"
KEY = "dg-key"


@dataclass(frozen=True)
class Request:
    line: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    """Gives its answers in turn, one for each request; after the last one it holds whoever asks."""

    answers: Sequence[bytes]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the one that was held has gone."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await read_request(reader))
            if len(self.requests) <= len(self.answers):
                writer.write(self.answers[len(self.requests) - 1])
                await writer.drain()
            else:
                self.held.set()
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if self.held.is_set():
                self.left.set()

    async def ask(self, prompt: str = "Hello", *, stream: bool = False, limit_s: float = 30.0) -> Answer:
        return await ask_node(self.url, KEY, MODEL, prompt, stream=stream, limit_s=limit_s)


async def read_request(reader: asyncio.StreamReader) -> Request:
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
    return Request(line, headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[Server]:
    server = Server(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with listening:
        yield server


def http(status: int, body: Any = None, **headers: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    told = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in told.items()]
    return "\r\n".join([f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "", ""]).encode() + content


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return http(200, {"id": "c", "object": "chat.completion", "choices": [choice]}, x_diogenes_node="i-1")


def streamed(*lines: str, cut: bool = False) -> bytes:
    """An answer of these lines, each with its blank one; ``cut`` leaves out what says that it is over."""
    content = "".join(f"{line}\n\n" for line in lines).encode()
    chunk = f"{len(content):x}\r\n".encode() + content + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + chunk + (b"" if cut else b"0\r\n\r\n")


def token(text: str) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return "data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


def failure(code: str) -> dict[str, Any]:
    return {"error": {"message": "It did not work out.", "type": "server_error", "param": None, "code": code}}


LOADS = f": diogenes model={MODEL} phase=load elapsed=1s"
DONE = "data: [DONE]"


@needs_node
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_it_follows_a_307_with_method_body_and_key(stream: bool) -> None:
    there = http(307, location="/v1/chat/completions")
    async with serving(there, there, streamed(token("Hi"), DONE) if stream else whole("Hi")) as server:
        answer = await server.ask(stream=stream)
    assert (answer.text, answer.error) == ("Hi", "")
    assert {request.line for request in server.requests} == {"POST /v1/chat/completions HTTP/1.1"}
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 3
    (body,) = {request.body for request in server.requests}
    assert json.loads(body)["messages"] == [{"role": "user", "content": "Hello"}]


@needs_node
async def test_it_comes_back_after_a_503_that_asks_it_to() -> None:
    refusal = http(503, failure("model_starting"), retry_after="1", x_should_retry="true")
    async with serving(refusal, whole("Hi")) as server:
        assert await server.ask() == Answer("Hi", node="i-1")
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "1"]


@needs_node
async def test_it_does_not_come_back_where_it_is_told_not_to() -> None:
    async with serving(http(503, failure("no_capacity"), x_should_retry="false")) as server:
        assert await server.ask() == Answer(error="no_capacity", status=503)
    assert len(server.requests) == 1


@needs_node
async def test_an_error_without_a_code_is_told_by_its_class() -> None:
    async with serving(http(401)) as server:
        assert await server.ask() == Answer(error="AuthenticationError", status=401)


@needs_node
async def test_comments_in_a_stream_are_no_part_of_the_answer() -> None:
    async with serving(streamed(LOADS, LOADS, token("Hel"), ":", token("lo"), DONE)) as server:
        assert await server.ask(stream=True) == Answer("Hello")


@needs_node
async def test_an_error_within_a_stream_is_told_with_the_text_before_it() -> None:
    error = "data: " + json.dumps(failure("node_lost"))
    async with serving(streamed(LOADS, token("Hel"), error, DONE)) as server:
        assert await server.ask(stream=True) == Answer("Hel", error="node_lost")


@needs_node
async def test_a_stream_that_is_cut_is_an_error_with_the_text_before_it() -> None:
    async with serving(streamed(token("Hel"), cut=True)) as server:
        assert await server.ask(stream=True) == Answer("Hel", error="TypeError")


@needs_node
async def test_a_prompt_may_begin_with_dashes() -> None:
    async with serving(whole("Hi")) as server:
        assert (await server.ask("--stream")).whole
    assert json.loads(server.requests[0].body)["messages"][0]["content"] == "--stream"


@needs_node
async def test_what_is_set_for_the_client_outside_does_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_LOG", "debug")
    async with serving(whole("Hi")) as server:
        assert (await server.ask()).whole
    assert "openai-organization" not in server.requests[0].headers


@needs_node
async def test_a_client_that_does_not_end_is_killed_at_the_limit() -> None:
    async with serving() as server:
        with pytest.raises(NodeCrashed, match=r"no end within 0\.1 s"):
            await server.ask(limit_s=0.1)


@needs_node
async def test_a_story_that_is_cancelled_takes_its_client_along() -> None:
    async with serving() as server:
        asking = asyncio.create_task(server.ask())
        await asyncio.wait_for(server.held.wait(), 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.left.wait(), 30)


@needs_node
async def test_a_client_that_crashes_says_why() -> None:
    with pytest.raises(NodeCrashed, match=r"exit status 1\.(?s:.*)OPENAI_API_KEY"):
        await ask_node("http://127.0.0.1:9/v1", "", MODEL)


def test_a_machine_without_node_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no node is installed" in node_missing()


@pytest.mark.parametrize("found", ["", "1.0.0"])
def test_a_client_of_another_version_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str
) -> None:
    (tmp_path / "node").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "package.json").write_text('{"dependencies": {"openai": "2.0.0"}}')
    if found:
        installed = tmp_path / "node_modules" / "openai" / "package.json"
        installed.parent.mkdir(parents=True)
        installed.write_text(json.dumps({"version": found}))
    monkeypatch.setattr(node, "HOME", tmp_path)
    assert node_missing().endswith(f"there is: {found or 'nowhere'}")


def test_the_lock_holds_what_is_pinned_and_names_no_registry() -> None:
    lock = (node.HOME / "package-lock.json").read_text()
    pinned = json.loads((node.HOME / "package.json").read_text())["dependencies"]
    locked = {name: each["version"] for name, each in json.loads(lock)["packages"].items() if name}
    assert locked == {f"node_modules/{name}": version for name, version in pinned.items()}
    assert "://" not in lock
