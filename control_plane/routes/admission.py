"""What is checked before anything is spent: key, form, model. Bad input never wakes a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from control_plane.dialect import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect
from control_plane.errors import BodyTooLarge, InvalidRequest
from control_plane.exchange import Receive
from control_plane.ports import Clock

MAX_ATTEMPTS_KEPT = 4096
ATTEMPT_MEMORY_S = 300.0
WAIT_UNTIL = b"diogenes_wait_until"
_TIME = re.compile("[0-9]{1,12}")  # int() refuses thousands of digits
MAX_DISCARD_S = 10.0

_REQUIRED = {
    CHAT.path: ("messages", list),
    COMPLETIONS.path: ("prompt", str | list),
    EMBEDDINGS.path: ("input", str | list),
    RESPONSES.path: ("input", str | list),
    MESSAGES.path: ("messages", list),
}


class Parsed(NamedTuple):
    """The little of a body that Diogenes reads; the bytes go to the engine as they are, or nearly."""

    model: str
    stream: bool
    body: bytes
    strip_usage: bool  # the engine was asked for usage on our account
    request: Mapping[str, Any]  # the body, taken apart; let go of it soon


class Incoming:
    """The client's ``receive``, which knows whether more of the body is to come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def discard(self, *, limit: int) -> None:
        """Take in the rest, up to a bound: closing on a client that still sends makes it lose the answer it got."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_DISCARD_S):
                while not self._complete and limit > 0:
                    limit -= len((await self()).get("body", b""))


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as that is known, InvalidRequest when the client left."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The client left before its request was complete.")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse(dialect: Dialect, body: bytes) -> Parsed:
    """Raises InvalidRequest with the parameter that is wrong. What only the engine can judge is left to it."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(request, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    model = _typed(request, "model", str)
    name, kind = _REQUIRED[dialect.path]
    _typed(request, name, kind)
    stream = request.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("`stream` must be true or false.", param="stream", code="invalid_type")
    stream = bool(stream) and bool(dialect.end_marks)  # embeddings come whole, whatever is asked for
    strip = stream and dialect.usage_on_request and not _asks_for_usage(request)
    return Parsed(model, stream, _with_usage(request, body) if strip else body, strip, request)


def _typed(request: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = request.get(name)
    if value is None or value == "" or value == []:
        raise InvalidRequest(f"`{name}` is missing.", param=name, code="missing_required_parameter")
    if not isinstance(value, kind):
        raise InvalidRequest(f"`{name}` has the wrong type.", param=name, code="invalid_type")
    return value


def _asks_for_usage(request: Mapping[str, Any]) -> bool:
    options = request.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object.", param="stream_options", code="invalid_type")
    return bool(options and options.get("include_usage"))


def _with_usage(request: dict[str, Any], body: bytes) -> bytes:
    """The body, asking the engine for its token counts. Spliced where that is safe: decoding again costs a millisecond
    a megabyte."""
    if "stream_options" not in request:
        return body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)
    options = {**(request["stream_options"] or {}), "include_usage": True}
    try:
        return orjson.dumps({**request, "stream_options": options})
    except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
        raise InvalidRequest(f"The body is nested too deeply: {error}", code="invalid_json") from None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request is larger than {limit} bytes.")


def max_wait_s(headers: Mapping[bytes, bytes]) -> float | None:
    """``X-Diogenes-Wait``, seconds. Raises InvalidRequest unless it is 0 to 600."""
    value = headers.get(b"x-diogenes-wait")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 3 or int(value) > 600:  # int() refuses thousands of digits
        raise InvalidRequest("X-Diogenes-Wait must be a whole number of seconds from 0 to 600.", code="invalid_header")
    return float(value)


def wait_left_s(query: bytes, limit_s: float, now: float) -> float:
    """Of a bounded wait, which may have begun in another process: that one wrote its end into the address that it sent
    the client on to. Nobody's wait gets longer by it. Raises InvalidRequest."""
    if WAIT_UNTIL not in query:
        return limit_s
    name = WAIT_UNTIL.decode()
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name, [str(math.ceil(now + limit_s))])
    if len(values) != 1 or not _TIME.fullmatch(values[0]):
        raise InvalidRequest(f"{name} must be one time in Unix seconds.", param=name, code="invalid_parameter")
    return min(limit_s, max(0.0, int(values[0]) - now))


class Attempts:
    """How often a client has come back with the same request: by its own header, else by what it sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[bytes, tuple[int, float]] = {}

    def count(self, headers: Mapping[bytes, bytes], *, owner: str, body: bytes) -> int:
        """From 0."""
        text = headers.get(b"x-stainless-retry-count", b"0")
        told = int(text) if text.isdigit() and len(text) < 4 else 0
        # LangChain.js says 0 every time and the AI SDK nothing; from others the same words twice are two questions.
        if headers.get(b"x-stainless-lang") != b"js" and not headers.get(b"user-agent", b"").startswith(b"ai/"):
            return told
        key = hashlib.sha256(owner.encode() + b"\0" + body).digest()
        now = self._clock()
        seen, until = self._seen.get(key, (0, 0.0))
        seen = seen if now < until else 0
        if len(self._seen) >= MAX_ATTEMPTS_KEPT:
            self._seen.clear()
        self._seen[key] = (seen + 1, now + ATTEMPT_MEMORY_S)
        return max(seen, told)
