"""The four ways in which vLLM lets itself be asked for text, as the stand-in engine speaks them.

Each dialect knows where a request keeps its prompt and its limit, and how an answer looks: whole, as a stream, and
when it breaks off.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

Json = dict[str, Any]

FINGERPRINT = "stand-in-0.32.0"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Usage:
    prompt: int
    completion: int

    def openai(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.completion,
            "completion_tokens": self.completion,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def input_output(self) -> Json:
        return {"input_tokens": self.prompt, "output_tokens": self.completion}


@dataclass(frozen=True)
class Ending:
    """How an answer ended."""

    text: str
    usage: Usage
    cut: bool  # at the request's token limit


def event(data: Json, *, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def error_body(status: int, message: str, kind: str, *, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass
class Dialect(ABC):
    """One answer in one dialect: as events, or whole."""

    id: str
    model: str
    prompt_tokens: int
    usage_wanted: bool = False

    required: ClassVar[Mapping[str, type]]  # the fields that a request must have, and what they are
    limits: ClassVar[Sequence[str]]  # the fields that may limit the answer's tokens; the first that is there counts

    @abstractmethod
    def opening(self) -> Iterator[bytes]: ...

    @abstractmethod
    def token(self, text: str) -> bytes: ...

    @abstractmethod
    def closing(self, ending: Ending) -> Iterator[bytes]: ...

    @abstractmethod
    def broken(self, message: str) -> Iterator[bytes]:
        """The end of a stream that cannot go on."""

    @abstractmethod
    def whole(self, ending: Ending) -> Json: ...


@dataclass
class Chat(Dialect):
    """``/v1/chat/completions``"""

    required: ClassVar[Mapping[str, type]] = {"messages": list}
    limits: ClassVar[Sequence[str]] = ("max_completion_tokens", "max_tokens")

    def opening(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""}, None)

    def token(self, text: str) -> bytes:
        return self._chunk({"content": text}, None)

    def closing(self, ending: Ending) -> Iterator[bytes]:
        yield self._chunk({}, "length" if ending.cut else "stop")
        if self.usage_wanted:
            yield event({**self._head("chat.completion.chunk"), "choices": [], "usage": ending.usage.openai()})
        yield DONE

    def broken(self, message: str) -> Iterator[bytes]:
        yield event(error_body(500, message, "InternalServerError"))
        yield DONE

    def whole(self, ending: Ending) -> Json:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": ending.text, "refusal": None, "reasoning": None},
            "logprobs": None,
            "finish_reason": "length" if ending.cut else "stop",
            "stop_reason": None,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": ending.usage.openai()}

    def _head(self, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{self.id}",
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _chunk(self, delta: Json, reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})


@dataclass
class Completion(Dialect):
    """``/v1/completions``"""

    required: ClassVar[Mapping[str, type]] = {"prompt": object}
    limits: ClassVar[Sequence[str]] = ("max_tokens",)

    def opening(self) -> Iterator[bytes]:
        return iter(())

    def token(self, text: str) -> bytes:
        return event(self._body([self._choice(text, None)]))

    def closing(self, ending: Ending) -> Iterator[bytes]:
        yield event(self._body([self._choice("", "length" if ending.cut else "stop")]))
        if self.usage_wanted:
            yield event({**self._body([]), "usage": ending.usage.openai()})
        yield DONE

    def broken(self, message: str) -> Iterator[bytes]:
        yield event(error_body(500, message, "InternalServerError"))
        yield DONE

    def whole(self, ending: Ending) -> Json:
        choice = self._choice(ending.text, "length" if ending.cut else "stop")
        return {**self._body([choice]), "usage": ending.usage.openai()}

    def _body(self, choices: Sequence[Json]) -> Json:
        return {
            "id": f"cmpl-{self.id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _choice(self, text: str, reason: str | None) -> Json:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}


@dataclass
class Message(Dialect):
    """``/v1/messages``, the dialect of Anthropic's SDKs"""

    required: ClassVar[Mapping[str, type]] = {"messages": list, "max_tokens": int}
    limits: ClassVar[Sequence[str]] = ("max_tokens",)

    def opening(self) -> Iterator[bytes]:
        usage = Usage(self.prompt_tokens, 0).input_output()
        message = {**self._head(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield self._event("message_start", {"message": message})
        yield self._event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})

    def token(self, text: str) -> bytes:
        return self._event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    def closing(self, ending: Ending) -> Iterator[bytes]:
        yield self._event("content_block_stop", {"index": 0})
        delta = {"stop_reason": self._reason(ending), "stop_sequence": None}
        yield self._event("message_delta", {"delta": delta, "usage": ending.usage.input_output()})
        yield self._event("message_stop", {})

    def broken(self, message: str) -> Iterator[bytes]:
        yield self._event("error", {"error": {"type": "internal_error", "message": message}})

    def whole(self, ending: Ending) -> Json:
        return {
            **self._head(),
            "content": [{"type": "text", "text": ending.text}],
            "stop_reason": self._reason(ending),
            "stop_sequence": None,
            "usage": ending.usage.input_output(),
        }

    def _head(self) -> Json:
        return {"id": f"chatcmpl-{self.id}", "type": "message", "role": "assistant", "model": self.model}

    def _reason(self, ending: Ending) -> str:
        return "max_tokens" if ending.cut else "end_turn"

    def _event(self, name: str, data: Json) -> bytes:
        return event({"type": name, **data}, name=name)


@dataclass
class Response(Dialect):
    """``/v1/responses``"""

    _sent: int = 0

    required: ClassVar[Mapping[str, type]] = {"input": object}
    limits: ClassVar[Sequence[str]] = ("max_output_tokens",)

    def opening(self) -> Iterator[bytes]:
        item = {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        yield self._event("response.created", {"response": self._body("in_progress", ending=None)})
        yield self._event("response.in_progress", {"response": self._body("in_progress", ending=None)})
        yield self._event("response.output_item.added", {"output_index": 0, "item": item})
        yield self._event("response.content_part.added", {**self._place(), "part": self._part("")})

    def token(self, text: str) -> bytes:
        return self._event("response.output_text.delta", {**self._place(), "delta": text, "logprobs": []})

    def closing(self, ending: Ending) -> Iterator[bytes]:
        text = ending.text
        yield self._event("response.output_text.done", {**self._place(), "text": text, "logprobs": []})
        yield self._event("response.content_part.done", {**self._place(), "part": self._part(text)})
        yield self._event("response.output_item.done", {"output_index": 0, "item": self._item(text)})
        yield self._event("response.completed", {"response": self.whole(ending)})

    def broken(self, message: str) -> Iterator[bytes]:
        yield self._event("error", {"code": "server_error", "message": message, "param": None})

    def whole(self, ending: Ending) -> Json:
        return self._body("incomplete" if ending.cut else "completed", ending=ending)

    def _body(self, status: str, *, ending: Ending | None) -> Json:
        body: Json = {
            "id": f"resp_{self.id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "model": self.model,
            "output": [],
            "tools": [],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "incomplete_details": {"reason": "max_output_tokens"} if ending and ending.cut else None,
            "usage": None,
        }
        if ending:
            usage = ending.usage
            body["output"] = [self._item(ending.text)]
            body["usage"] = {
                **usage.input_output(),
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt + usage.completion,
            }
        return body

    def _item(self, text: str) -> Json:
        content = [self._part(text)]
        return {
            "id": f"msg_{self.id}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }

    def _part(self, text: str) -> Json:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _place(self) -> Json:
        return {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}

    def _event(self, name: str, data: Json) -> bytes:
        numbered = {"type": name, "sequence_number": self._sent, **data}
        self._sent += 1
        return event(numbered, name=name)
