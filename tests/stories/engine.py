"""An engine for stories: speaks just enough HTTP, and dies in every way that a test asks for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from gpu_node.protocol import ENGINE_PORT

_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}}


@dataclass
class Behaviour:
    """What the engine does with every request from now on."""

    tokens: tuple[str, ...] = ("Hello", " there", "!")
    token_s: float = 0.0
    first_token_s: float = 0.0
    dies_after: int | None = None  # tokens
    error_after: int | None = None  # tokens; vLLM's in-stream error, then [DONE]
    status: int = 200
    error: dict[str, object] = field(default_factory=dict)  # the body of another status
    chunk_bytes: int = 0  # padding of every token


class Engine:
    """One HTTP server on a node's own loopback address."""

    def __init__(self, ip: str, behaviour: Behaviour) -> None:
        self._ip = ip
        self._behaviour = behaviour
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.requests: list[dict[str, object]] = []
        self.streaming = 0
        self.sent_bytes = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._ip, ENGINE_PORT, reuse_address=True)

    def kill(self) -> None:
        """Gone, with every open connection."""
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
        request = json.loads(await reader.readexactly(length))
        self.requests.append(request)
        if head.startswith("POST /tokenize "):
            self._whole(writer, 200, {"count": _count(self._behaviour.tokens, str(request["prompt"]))})
        elif self._behaviour.status != 200:
            self._whole(writer, self._behaviour.status, self._behaviour.error)
        elif request.get("stream"):
            self.streaming += 1
            try:
                await self._stream(reader, writer, request)
            finally:
                self.streaming -= 1
        else:
            await self._answer(writer)
        return True

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._behaviour.first_token_s)
        if self._behaviour.dies_after is not None:
            raise ConnectionError
        text = "".join(self._behaviour.tokens)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self._whole(writer, 200, {**_CHUNK, "object": "chat.completion", "choices": [choice], "usage": _USAGE})

    def _whole(self, writer: asyncio.StreamWriter, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        )
        writer.write(data)

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: dict[str, object]
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(self._behaviour.first_token_s)
        said = _said(request)
        chunk = {**_CHUNK, "id": "chatcmpl-2"} if said else _CHUNK
        for number, token in enumerate(_rest(self._behaviour.tokens, said)):
            if number == self._behaviour.dies_after:
                raise ConnectionError
            if number == self._behaviour.error_after:
                await self._event(writer, {"error": {"message": "boom", "type": "InternalServerError", "code": 500}})
                await self._end(writer)
                return
            delta = {"content": token + "x" * self._behaviour.chunk_bytes} | ({} if number else {"role": "assistant"})
            await self._event(writer, {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            await asyncio.sleep(self._behaviour.token_s)
            if reader.at_eof():
                raise ConnectionError
        await self._event(writer, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        options = request.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            usage = _usage(self._behaviour.tokens, said) if said else _USAGE
            await self._event(writer, {**chunk, "choices": [], "usage": usage})
        await self._end(writer)

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        await self._write(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    async def _event(self, writer: asyncio.StreamWriter, payload: dict[str, object]) -> None:
        await self._write(writer, b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n")

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
        self.sent_bytes += len(data)


def _said(request: dict[str, object]) -> str:
    """What of the answer the request brings along."""
    messages = request.get("messages")
    if not request.get("continue_final_message") or not isinstance(messages, list):
        return ""
    assert request["add_generation_prompt"] is False
    assert messages[-1]["role"] == "assistant"
    return str(messages[-1]["content"])


def _rest(tokens: tuple[str, ...], said: str) -> list[str]:
    """The tokens after that; one that was said in part comes in part."""
    left, rest = len(said), []
    for token in tokens:
        if left < len(token):
            rest.append(token[max(left, 0) :])
        left -= len(token)
    assert "".join(tokens).startswith(said)
    return rest


def _count(tokens: tuple[str, ...], text: str) -> int:
    """In how many tokens that was said."""
    return len(tokens) - len(_rest(tokens, text))


def _usage(tokens: tuple[str, ...], said: str) -> dict[str, object]:
    known = _count(tokens, said)
    prompt, completion = 7 + known, len(tokens) - known
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
