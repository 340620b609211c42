"""What the relay must know of an engine's event stream, without taking it apart.

Bytes pass through as they came. An event is looked at only when a cheap search says that it may hold the usage, or an
error: the usage event is kept (and taken out again when the client had not asked for it), and so is an error, which
ends what is handed on: whoever knows what became of the engine tells the client, in a form that stock clients raise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from control_plane.dialect import Dialect, tokens_of
from control_plane.errors import EngineLost, RequestError, TakenBack
from control_plane.usage import Tokens
from gpu_node.protocol import Failure

MAX_CARRY_BYTES = 4 * 1024 * 1024  # a single event longer than this passes unseen
MAX_KEPT_BYTES = 64 * 1024  # of the end of an answer that is not streamed: its usage stands there
_USAGE = re.compile(rb'"usage":\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_END = b"\n\n"


class WholeAnswer:
    """An answer that is not streamed: passes through; kept, up to a bound, for its usage."""

    complete = True  # its end is the body's end
    error: RequestError | None = None  # what one says of itself has its own status

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        self._tail = (self._tail + chunk)[-MAX_KEPT_BYTES:] if self._tail else chunk
        return chunk

    def rest(self) -> bytes:
        return b""

    @property
    def tokens(self) -> Tokens | None:
        found = _USAGE.findall(self._tail)  # inside what the model says, every quote has a backslash before it
        return tokens_of(orjson.loads(found[-1])) if found else None


class EventStream:
    """Whole events in, whole events out: nothing of ours may land inside one of the engine's."""

    def __init__(self, dialect: Dialect, *, strip_usage: bool) -> None:
        self._dialect = dialect
        self._strip_usage = strip_usage
        self.error: RequestError | None = None  # of the engine; nothing is handed on after it
        self._carry = b""
        self.tokens: Tokens | None = None
        self.complete = False  # the end mark went by

    def feed(self, chunk: bytes) -> bytes:
        """What of it to hand on."""
        if not chunk or self.error:
            return b""
        if not self._carry and chunk.endswith(_END) and b'"usage"' not in chunk and b'"error"' not in chunk:
            self._look_for_end(chunk)
            return chunk
        data = self._carry + chunk
        cut = data.rfind(_END) + len(_END)
        if cut < len(_END):
            unseen = len(data) > MAX_CARRY_BYTES
            self._carry = b"" if unseen else data
            return data if unseen else b""
        self._carry = data[cut:]
        return self._events(data[:cut])

    def rest(self) -> bytes:
        """What was held back, at the end of the stream."""
        rest, self._carry = self._carry, b""
        self._look_for_end(rest)
        return self._event(rest) if rest else b""

    def _events(self, data: bytes) -> bytes:
        """Whole events; those before the first that may be of interest are not even told apart."""
        self._look_for_end(data)
        found = [place for place in (data.find(b'"usage"'), data.find(b'"error"')) if place >= 0]
        if not found:
            return data
        begin = data.rfind(_END, 0, min(found))
        begin = 0 if begin < 0 else begin + len(_END)
        return data[:begin] + b"".join(self._event(event + _END) for event in data[begin:].split(_END) if event)

    def _event(self, event: bytes) -> bytes:
        payload = None if self.error else _payload(event)
        if payload is None:
            return b"" if self.error else event
        self._note_usage(payload)
        self.error = upstream_error(payload, status=500)
        if self.error:
            return b""
        if self._strip_usage and payload.get("choices") == [] and payload.get("usage"):
            return b""
        return event

    def _look_for_end(self, data: bytes) -> None:
        """An end mark begins a line. Elsewhere it is what the model says: JSON holds no raw newline before it."""
        for mark in self._dialect.end_marks:
            if mark in data and (data.startswith(mark) or b"\n" + mark in data):
                self.complete = True

    def _note_usage(self, payload: dict[str, object]) -> None:
        inner = payload.get("response") or payload.get("message")  # /v1/responses, /v1/messages
        usage = payload.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
        found = tokens_of(usage)
        if found and self.tokens:  # /v1/messages tells the prompt at the start, the completion at the end
            found = Tokens(
                prompt=max(found.prompt, self.tokens.prompt),
                cached=max(found.cached, self.tokens.cached),
                completion=max(found.completion, self.tokens.completion),
                reasoning=max(found.reasoning, self.tokens.reasoning),
            )
        self.tokens = found or self.tokens


def upstream_error(payload: object, *, status: int) -> RequestError | None:
    """The engine's error, whatever its shape: nested, flat, FastAPI's, or a bare string. None where it is no error."""
    if not isinstance(payload, dict):
        return None
    nested = payload.get("error")
    if payload.get("object") == "error" or payload.get("type") == "error":
        nested = nested or payload
    if nested is None and "detail" in payload:
        nested = {"message": payload["detail"]}
    if not nested:
        return None
    detail = nested if isinstance(nested, dict) else {"message": nested}
    error = EngineError(str(detail.get("message") or "The engine failed."), param=_text(detail.get("param")))
    error.answered = status
    error.code = _code(detail, status)
    return error


class EngineError(RequestError):
    """An error that the engine itself answered; keeps the engine's status."""

    default_code = "engine_error"
    answered: int = 500

    @property
    def http_status(self) -> int:
        return self.answered

    @property
    def kind(self) -> str:  # type: ignore[override]  # per answer here, per class elsewhere
        return "server_error" if self.answered >= 500 else "invalid_request_error"


class AnswerLost(Exception):
    """An answer ended before its end, and does not go on; ``error`` is for the client, as long as nobody knows more."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.message)
        self.error = error


def taken_back() -> TakenBack:
    """AWS ended the engine's Spot instance, and this answer is none that can be continued elsewhere."""
    return TakenBack(
        "AWS took the Spot instance back in the middle of this answer, which cannot be continued on another: it has "
        "tool calls, reasoning, a structured form, log probabilities or several choices. Ask again."
    )


def cut_short(why: Failure | None = None) -> EngineLost:
    """The stream ended without its end mark; ``why`` is what became of the engine, where that is known."""
    again = "Ask again: a new one is started if need be."
    if why is None:
        return EngineLost(f"The engine stopped in the middle of this answer. {again}")
    told = {"code": why.code, "message": why.message, "fix": why.fix}
    return EngineLost(
        f"The engine stopped in the middle of this answer: {why.message} {again}", details={"failure": told}
    )


def _payload(event: bytes) -> dict[str, object] | None:
    start = event.find(b"data: {")
    if start < 0 or not (b'"usage"' in event or b'"error"' in event):
        return None
    line = event[start + len(b"data: ") :].split(b"\n", 1)[0]
    try:
        payload = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None


def _code(detail: Mapping[str, object], status: int) -> str | None:
    """vLLM's codes are the status again; clients know OpenAI's word for the one error that they act on."""
    if isinstance(detail.get("code"), str):
        return _text(detail["code"])
    if detail.get("param") == "input_tokens":
        return "context_length_exceeded"
    return EngineError.default_code if status >= 500 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
