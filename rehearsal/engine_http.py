"""The stand-in engine's HTTP: vLLM's paths, statuses and error shapes."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rehearsal import engine_dialects as dialects
from rehearsal.engine_dialects import Dialect, Json, error_body
from rehearsal.engine_model import Broken, Model, Plan

_VECTOR_SIZE = 8
_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Refused(Exception):
    """A request that gets no answer."""

    def __init__(self, status: int, message: str, kind: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, kind, param=param)


def application(model: Model) -> Starlette:
    """All routes; on an engine that embeds, those that generate are missing, and the other way round."""
    api = Api(model)
    work = [("/v1/embeddings", api.embed)] if model.options.pooling else list(api.generating.items())
    questions = [
        ("/health", api.health),
        ("/ping", api.health),
        ("/v1/models", api.models),
        ("/version", api.version),
        ("/metrics", api.metrics),
    ]
    commands = [("/tokenize", api.tokenize), ("/sleep", api.sleep), *work]
    return Starlette(
        routes=[
            *(Route(path, handler, methods=["GET"]) for path, handler in questions),
            *(Route(path, handler, methods=["POST"]) for path, handler in commands),
        ],
        exception_handlers={HTTPException: _no_route, Refused: _refused},
    )


class Api:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._options = model.options
        self.generating: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.complete,
            "/v1/messages": self.message,
            "/v1/responses": self.respond,
            "/invocations": self.invoke,
        }

    async def health(self, _: Request) -> Response:
        return Response()

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": "0.32.0"})

    async def models(self, _: Request) -> Response:
        card = {"object": "model", "created": 0, "owned_by": "vllm", "root": self._options.repository, "parent": None}
        length = {"max_model_len": self._options.max_model_len}
        return JSONResponse(
            {"object": "list", "data": [{"id": name, **card, **length} for name in self._options.names]}
        )

    async def metrics(self, _: Request) -> Response:
        labels = f'{{engine="0",model_name="{self._options.names[0]}"}}'
        model = self._model
        told = (
            ("num_requests_running", "gauge", model.running),
            ("num_requests_waiting", "gauge", model.waiting),
            ("prompt_tokens_total", "counter", model.prompt_tokens),
            ("generation_tokens_total", "counter", model.generated_tokens),
        )
        lines = [f"# TYPE vllm:{name} {kind}\nvllm:{name}{labels} {float(value)}\n" for name, kind, value in told]
        return PlainTextResponse("".join(lines))

    async def tokenize(self, request: Request) -> Response:
        body = await _object(request)
        words = prompt_text(body.get("prompt") or body.get("messages")).split()
        ids = [zlib.crc32(word.encode()) % 1000 for word in words]
        return JSONResponse({"count": len(ids), "max_model_len": self._options.max_model_len, "tokens": ids})

    async def sleep(self, _: Request) -> Response:
        """Only there to be unreachable from outside."""
        return Response()

    async def chat(self, request: Request) -> Response:
        body = await _object(request)
        if body.get("tools") and body.get("tool_choice", "auto") == "auto" and not self._options.tool_calls:
            message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            raise Refused(400, message, "BadRequestError")
        return self._answer(body, dialects.Chat)

    async def complete(self, request: Request) -> Response:
        return self._answer(await _object(request), dialects.Completion)

    async def message(self, request: Request) -> Response:
        body = await _object(request)
        try:
            return self._answer(body, dialects.Message)
        except Refused as refused:
            if refused.status != 404:
                raise
            error = refused.body["error"]
            shape = {"type": "error", "error": {"type": error["type"], "message": error["message"]}}
            return JSONResponse(shape, refused.status)

    async def respond(self, request: Request) -> Response:
        return self._answer(await _object(request), dialects.Response)

    async def invoke(self, request: Request) -> Response:
        body = await _object(request)
        return self._answer(body, dialects.Chat if "messages" in body else dialects.Completion)

    async def embed(self, request: Request) -> Response:
        body = await _object(request)
        name = self._name(body)
        _require(body, {"input": object})
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        words = sum(len(prompt_text(text).split()) for text in texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _vector(prompt_text(text), body.get("encoding_format")),
            }
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0, "prompt_tokens_details": None}
        return JSONResponse({"id": "embd-0", "object": "list", "model": name, "data": data, "usage": usage})

    def _answer(self, body: Json, kind: type[Dialect]) -> Response:
        if self._model.draining:
            raise Refused(500, "cannot schedule new futures after shutdown", "InternalServerError")
        name = self._name(body)
        _require(body, kind.required)
        asked = body.get("messages") or body.get("prompt") or body.get("input") or ""
        said = ""
        if body.get("continue_final_message"):
            asked, said = asked[:-1], prompt_text(asked[-1])
        plan = self._model.plan(prompt_text(asked), self._limit(body, kind), said=len(said.split()))
        usage_wanted = self._options.always_usage or bool((body.get("stream_options") or {}).get("include_usage"))
        dialect = kind(self._model.next_id(), name, plan.prompt_tokens, usage_wanted)
        if body.get("stream"):
            return Attended(lambda send: self._stream(plan, dialect, send))
        return Attended(lambda send: self._whole(plan, dialect, send))

    def _name(self, body: Json) -> str:
        name = body.get("model") or self._options.names[0]
        if name not in self._options.names:
            known = ", ".join(self._options.names)
            message = f"The model `{name}` does not exist. Valid aliases: {known}."
            raise Refused(404, message, "NotFoundError", param="model")
        return str(name)

    def _limit(self, body: Json, kind: type[Dialect]) -> int | None:
        field = next((field for field in kind.limits if body.get(field) is not None), None)
        if field is None:
            return None
        limit = body[field]
        if not isinstance(limit, int):
            raise _invalid("int_parsing", field, "Input should be a valid integer")
        if limit > self._options.max_model_len:
            message = f"max_tokens={limit} cannot be greater than max_model_len={self._options.max_model_len}."
            raise Refused(400, message, "BadRequestError", param="max_tokens")
        return limit

    async def _stream(self, plan: Plan, dialect: Dialect, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        async with aclosing(self._events(plan, dialect)) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, plan: Plan, dialect: Dialect) -> AsyncGenerator[bytes, None]:
        said: list[str] = []
        try:
            async with aclosing(self._model.tokens(plan)) as tokens:
                for event in dialect.opening():
                    yield event
                async for token in tokens:
                    said.append(token)
                    yield dialect.token(token)
        except Broken as broken:
            for event in dialect.broken(str(broken)):
                yield event
            return
        for event in dialect.closing(self._model.ending(plan, said)):
            yield event

    async def _whole(self, plan: Plan, dialect: Dialect, send: Send) -> None:
        try:
            async with aclosing(self._model.tokens(plan)) as tokens:
                said = [token async for token in tokens]
        except Broken as broken:
            status, body = 500, error_body(500, str(broken), "InternalServerError")
        else:
            status, body = 200, dialect.whole(self._model.ending(plan, said))
        text = json.dumps(body).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Attended(Response):
    """An answer that is worked on only as long as its client is there."""

    def __init__(self, work: Callable[[Send], Awaitable[None]]) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._work(send))
        gone = asyncio.ensure_future(_hang_up(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in (work, gone) if task.done()]
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        for task in ended:
            task.result()


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def prompt_text(value: Any) -> str:
    """All text in a prompt, whichever dialect it is in."""
    match value:
        case str():
            return value
        case list():
            return " ".join(prompt_text(member) for member in value)
        case {"content": content}:
            return prompt_text(content)
        case {"text": str(text)}:
            return text
    return ""


async def _object(request: Request) -> Json:
    if "application/json" not in request.headers.get("content-type", ""):
        raise Refused(400, "Unsupported Media Type: Only 'application/json' is allowed", "Bad Request")
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise _invalid("json_invalid", "1", "JSON decode error") from error
    if not isinstance(body, dict):
        raise _invalid("model_attributes_type", "", "Input should be a valid dictionary")
    return body


def _require(body: Json, fields: Any) -> None:
    for field, kind in fields.items():
        if field not in body:
            raise _invalid("missing", field, "Field required")
        if not isinstance(body[field], kind):
            raise _invalid(f"{kind.__name__}_type", field, f"Input should be a valid {kind.__name__}")


def _invalid(kind: str, field: str, problem: str) -> Refused:
    place = f"body.{field}" if field else "body"
    message = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{place}', 'msg': '{problem}'}}"
    return Refused(400, message, "Bad Request", param=place)


def _vector(text: str, encoding: object) -> list[float] | str:
    """The same text has the same vector."""
    numbers = [zlib.crc32(f"{place} {text}".encode()) / 2**32 for place in range(_VECTOR_SIZE)]
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{_VECTOR_SIZE}f", *numbers)).decode()
    return numbers


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, error.status)


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
