"""The rest of an answer that broke off with its Spot node: asked of another engine, and one stream for the client.

While a Spot node writes a stream, what went out of it is kept here, in memory, and never logged. When the node goes,
another engine is asked to go on from that text: a chat with the text as the beginning of the assistant's message
(``continue_final_message``), a completion with the text behind its prompt. What comes is made to look as if it had
come from the first: its id, no second role, usage as if one engine had written all. Where everything that the request
allows was said, and only its end is missing, one token is asked for, since engines answer no less; it is thrown away.

Not everything can be continued: not what is more than the text of one choice (tool calls, log probabilities), not what
was bound to a form by a grammar that would begin anew, and only where the API has words for it (not ``/v1/responses``,
``/v1/messages``). And not what has reasoned: a chat template leaves the reasoning of a begun message out (DeepSeek's),
or puts its end behind it though it had not ended (Qwen's), and the engine's parser, which goes by those marks, would
then hand on text as reasoning or reasoning as text. Both look like an answer, so nobody would notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from control_plane.dialect import CHAT, COMPLETIONS, Dialect
from control_plane.usage import Tokens

CONDENSE_BYTES = 32 * 1024  # of events are kept as they were sent; more are taken apart and their text is kept
_END = b"\n\n"
_DATA = b"data: "
_LIMITS = ("max_tokens", "max_completion_tokens", "min_tokens")
_BOUND = (  # by a grammar, or with more in the answer than text
    "audio",
    "echo",
    "function_call",
    "functions",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logprobs",
    "prompt_logprobs",
    "return_token_ids",
    "structured_outputs",
    "suffix",
    "top_logprobs",
    "truncate_prompt_tokens",
    "use_beam_search",
)

Json = dict[str, Any]


def can_keep(dialect: Dialect) -> bool:
    """Does this route have words for going on?"""
    return dialect is CHAT or dialect is COMPLETIONS


class Transcript:
    """What a client was sent of one streamed answer."""

    def __init__(self, dialect: Dialect, body: bytes) -> None:
        self._dialect = dialect
        self._body = body
        self._sent: list[bytes] = []
        self._sent_bytes = 0
        self._text: list[str] = []
        self._plain = True  # text of one choice, and nothing else
        self.pieces = 0
        self._head: Json | None = None
        self._finished = False  # the reason why it ended went out

    def note(self, events: bytes) -> None:
        """These whole events went out."""
        if events and self._plain:
            self._sent.append(events)
            self._sent_bytes += len(events)
            if self._sent_bytes > CONDENSE_BYTES:
                self._condense()

    @property
    def head(self) -> Json | None:
        """Of its first event: id and creation; None where none went out."""
        self._condense()
        return self._head

    @property
    def text(self) -> str:
        """What the model has said."""
        self._condense()
        self._text = ["".join(self._text)]
        return self._text[0]

    @property
    def continued(self) -> str:
        """What another engine goes on from. Chat templates take white space off its end: the model says that again."""
        return self.text.rstrip()

    def spent(self, said_tokens: int) -> bool:
        """Was as much said as the request allows?"""
        request = orjson.loads(self._body)
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        return isinstance(limit, int) and 0 < limit <= said_tokens

    def rest(self, said_tokens: int = 0) -> Json | None:
        """The request for what is missing; None where it cannot be asked for."""
        self._condense()
        request: Json = orjson.loads(self._body)
        if self._finished or not self._plain or not _continuable(request):
            return None
        for limit in _LIMITS:
            if isinstance(request.get(limit), int):
                request[limit] = max(request[limit] - said_tokens, 0 if limit == "min_tokens" else 1)
        said = self.continued
        if not said:
            return request
        return _chat(request, said) if self._dialect is CHAT else _completion(request, said)

    def _condense(self) -> None:
        sent, self._sent, self._sent_bytes = b"".join(self._sent), [], 0
        for event in sent.split(_END):
            payload = _payload(event)
            if payload is not None:
                self._take(payload)
        if not self._plain:
            self._text = []

    def _take(self, payload: Json) -> None:
        self._head = self._head or {name: value for name, value in payload.items() if name in ("id", "created")}
        choices = payload.get("choices")
        if not choices:
            return
        piece = _piece(choices)
        if piece is None:
            self._plain = False
            return
        self._text.append(piece)
        self.pieces += bool(piece)
        self._finished = self._finished or choices[0].get("finish_reason") is not None


class Seam:
    """Makes the events of another engine go on where those of the first ended."""

    def __init__(self, transcript: Transcript, said_tokens: int) -> None:
        self._head = transcript.head or {}
        self._opened = transcript.head is not None
        self._again = transcript.text[len(transcript.continued) :]  # white space that the model may say again
        self._said = said_tokens
        self._spent = transcript.spent(said_tokens)  # nothing more may be said: only the end is handed on

    def join(self, events: bytes) -> bytes:
        """What of them to hand on, and how."""
        return b"".join(self._joined(event) for event in events.split(_END) if event)

    def tokens(self, told: Tokens | None) -> Tokens | None:
        """Of the whole answer: what was said before was part of the second engine's prompt."""
        if told is None:
            return None
        prompt = max(told.prompt - self._said, 0)
        more = 0 if self._spent else told.completion
        return Tokens(prompt, min(told.cached, prompt), more + told.prompt - prompt)

    def _joined(self, event: bytes) -> bytes:
        payload = _payload(event)
        if payload is None or "choices" not in payload:  # a comment, the end, an error
            return event + _END
        payload |= self._head
        self._correct(payload.get("usage"))
        handed_on = self._ended if self._spent else self._more
        if payload["choices"] and not handed_on(payload["choices"][0]):
            return b""
        return _DATA + orjson.dumps(payload) + _END

    def _ended(self, choice: Json) -> bool:
        """Makes of the end of one token too many that of the answer without it. Is it the end?"""
        if choice.get("finish_reason") is None:
            return False
        nothing: Json = {"delta": {}} if "delta" in choice else {"text": ""}
        choice |= nothing | {"finish_reason": "length", "stop_reason": None}
        return True

    def _more(self, choice: Json) -> bool:
        """Takes out of it what the client has. Is anything left?"""
        delta = choice.get("delta")
        name, said = ("text", choice) if delta is None else ("content", delta)
        if self._opened:
            said.pop("role", None)
        had = said.get(name)
        if had:
            said[name] = self._new(had)
        return bool(said.get(name)) or choice.get("finish_reason") is not None or _more_than(said, name, choice)

    def _new(self, text: str) -> str:
        again, self._again = self._again, ""
        same = 0
        while same < min(len(again), len(text)) and again[same] == text[same]:
            same += 1
        if same == len(text):
            self._again = again[same:]
        return text[same:]

    def _correct(self, usage: Any) -> None:
        if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
            return
        said = min(self._said, usage["prompt_tokens"])
        usage["prompt_tokens"] -= said
        usage["completion_tokens"] = said + (0 if self._spent else usage.get("completion_tokens") or 0)
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            details["cached_tokens"] = min(details["cached_tokens"], usage["prompt_tokens"])


def _more_than(said: Json, name: str, choice: Json) -> bool:
    """A delta with something in it that is not text: a tool call that begins now."""
    return choice.get("delta") is not None and any(value for key, value in said.items() if key != name)


def _payload(event: bytes) -> Json | None:
    if not event.startswith(b"data: {"):
        return None
    payload = orjson.loads(event[len(_DATA) :])
    return payload if isinstance(payload, dict) else None


def _piece(choices: list[Json]) -> str | None:
    """The text of an event; None where it has something else."""
    choice = choices[0]
    if len(choices) > 1 or choice.get("index") or choice.get("logprobs"):
        return None
    delta = choice.get("delta")
    if delta is None:
        return choice.get("text") or ""
    others = (value for name, value in delta.items() if name not in ("role", "content"))
    return None if any(others) else delta.get("content") or ""


def _continuable(request: Json) -> bool:
    form = request.get("response_format")
    options = request.get("stream_options") or {}
    return not (
        any(request.get(name) for name in _BOUND)
        or request.get("n") not in (None, 1)
        or request.get("best_of") not in (None, 1)
        or request.get("tool_choice") not in (None, "auto", "none")
        or (form is not None and form.get("type") != "text")
        or options.get("continuous_usage_stats")
    )


def _chat(request: Json, said: str) -> Json | None:
    messages = list(request["messages"])
    last: Mapping[str, Any] = messages[-1] if isinstance(messages[-1], dict) else {}
    if request.get("continue_final_message"):  # the client had begun the answer itself
        if not isinstance(last.get("content"), str):
            return None
        messages[-1] = {**last, "content": last["content"] + said}
    else:
        messages.append({"role": "assistant", "content": said})
    return {**request, "messages": messages, "add_generation_prompt": False, "continue_final_message": True}


def _completion(request: Json, said: str) -> Json | None:
    prompt = request["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return {**request, "prompt": prompt + said} if isinstance(prompt, str) else None
