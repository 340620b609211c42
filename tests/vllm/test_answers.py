"""What the real vLLM answers comes through Diogenes byte for byte, in every dialect; only ids and times may differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import orjson
import pytest

from control_plane import dialect as dialects
from control_plane.continuation import Seam, Transcript
from control_plane.dialect import Dialect
from tests.vllm.serving import MODEL, Serving
from tests.vllm.wire import Wire

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
ASKED = [{"role": "user", "content": "hello"}]
LONG = [{"role": "user", "content": "a node wakes when somebody asks " * 40}]
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
NO_REASONING = {"chat_template_kwargs": {"enable_thinking": False}}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY, "strict": True}}
NAMED = {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}, **NO_REASONING}
REQUIRED = {"tools": [TOOL], "tool_choice": "required", **NO_REASONING}
# Left to itself, the random model writes white space between a call's braces until its tokens are spent.
SAMPLED = {"temperature": 1, "seed": 2, "max_tokens": 150}


class Case(NamedTuple):
    """A request, and what must stand in its answer: else it would prove nothing."""

    path: str
    body: Mapping[str, Any]
    holds: str  # a pattern


def chat(holds: str, messages: object = ASKED, **body: Any) -> Case:
    return Case(CHAT, {"messages": messages, "temperature": 0, "seed": 1, "max_tokens": 24, **body}, holds)


CASES = {
    "a whole answer": chat(r'"reasoning_tokens":0', **NO_REASONING),
    "a stream with usage": chat(r'"choices":\[\],"usage":\{"prompt_tokens":\d+', **USAGE, **NO_REASONING),
    "usage with every chunk": chat(
        r'"choices":\[\{.*"usage":\{',
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    ),
    "several choices": chat(r'"index":2', n=3, temperature=1),
    "several choices, streamed": chat(r'"index":2', n=3, temperature=1, **USAGE),
    "cached tokens": chat(r'"cached_tokens":[1-9]\d*', LONG),
    "cached tokens, streamed": chat(r'"cached_tokens":[1-9]\d*', LONG, **USAGE),
    "reasoning": chat(r'"content":null.*"reasoning":"[^"]+"'),
    "reasoning, streamed": chat(r'"delta":\{"reasoning":"', **USAGE),
    "logprobs": chat(r'"top_logprobs":\[\{"token"', logprobs=True, top_logprobs=3),
    "logprobs, streamed": chat(r'"top_logprobs":\[\{"token"', logprobs=True, top_logprobs=3, **USAGE),
    "a named tool": chat(r'"arguments":"\{\\"city\\": ?\\"Oslo\\"\}"', **NAMED, **SAMPLED),
    "a named tool, streamed": chat(r'"tool_calls":\[\{.*"name":"weather"', **NAMED, **SAMPLED, **USAGE),
    "a required tool": chat(r'"finish_reason":"tool_calls"', **REQUIRED, **SAMPLED),
    "a required tool, streamed": chat(r'"finish_reason":"tool_calls"', **REQUIRED, **SAMPLED, **USAGE),
    "an answer by schema": chat(
        r"city",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": CITY, "strict": True}},
        **NO_REASONING,
        **SAMPLED,
    ),
    "a completion with logprobs": Case(
        TEXT, {"prompt": "hello", "temperature": 0, "max_tokens": 12, "logprobs": 2}, r'"token_logprobs":\['
    ),
    "completions of several prompts, streamed": Case(
        TEXT, {"prompt": ["hello"], "temperature": 0, "max_tokens": 12, "echo": True, **USAGE}, r'"text":"hello'
    ),
    "a response": Case(
        RESPONSES, {"input": "hello", "temperature": 0, "max_output_tokens": 12}, r'"type":"reasoning_text"'
    ),
    "a response, streamed": Case(
        RESPONSES,
        {"input": "hello", "temperature": 0, "max_output_tokens": 12, "stream": True},
        r"event: response\.(completed|incomplete)",
    ),
    "a message": Case(MESSAGES, {"messages": ASKED, "temperature": 0, "max_tokens": 12}, r'"stop_reason":"max_tokens"'),
    "a message, streamed": Case(
        MESSAGES, {"messages": ASKED, "temperature": 0, "max_tokens": 12, "stream": True}, r"event: message_stop"
    ),
}


def without_comments(content: bytes) -> bytes:
    """A stream without our signs of life, which are there when the engine was slower than the next of them."""
    return re.sub(rb"^: diogenes [^\n]*\n\n", b"", content, flags=re.MULTILINE)


@pytest.mark.parametrize("name", CASES)
def test_request_and_answer_pass_byte_for_byte(serving: Serving, name: str) -> None:
    """As they are on the wire to and from the engine: no two streams group their tokens in the same way."""
    case = CASES[name]
    serving.direct(case.path, case.body)  # fills the prefix cache, of which the answers then tell
    with Wire(serving.address) as wire:
        relayed = serving.relayed(case.path, case.body)
    asked, answered = wire.exchange(case.path)
    assert re.search(case.holds, answered.decode()), answered
    assert (relayed.status_code, without_comments(relayed.content)) == (200, answered)
    assert relayed.request.content == asked


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.body.get("stream")])
def test_a_whole_answer_is_the_one_that_a_direct_connection_gets(serving: Serving, name: str) -> None:
    case = CASES[name]
    serving.direct(case.path, case.body)  # fills the prefix cache, of which the answers then tell
    direct, relayed = serving.direct(case.path, case.body), serving.relayed(case.path, case.body)
    assert (relayed.status_code, told(relayed)) == (200, told(direct))
    assert comparable(relayed.content) == comparable(direct.content)
    assert relayed.content != direct.content, "an id was given twice"


@pytest.mark.parametrize(("path", "body"), [(CHAT, {"messages": ASKED}), (TEXT, {"prompt": "hello"})])
def test_a_stream_that_asked_for_no_usage_gets_all_but_that(
    serving: Serving, path: str, body: Mapping[str, Any]
) -> None:
    """The relay always asks for it, and takes that one event out."""
    body = {**body, "temperature": 0, "max_tokens": 12, "stream": True}
    with Wire(serving.address) as wire:
        relayed = serving.relayed(path, body)
    asked, answered = wire.exchange(path)
    assert orjson.loads(asked) == {"model": MODEL, **body, "stream_options": {"include_usage": True}}
    usage = re.findall(rb'data: \{[^\n]*"choices":\[\],"usage":\{[^\n]*\n\n', answered)
    assert len(usage) == 1
    assert without_comments(relayed.content) == answered.replace(usage[0], b"")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": ASKED, "max_tokens": 99_999},
        {"messages": [{"role": "user", "content": "hello " * 9000}]},
        {"messages": ASKED, "temperature": "warm"},
        {"messages": ASKED, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "nope"}}},
    ],
    ids=["too many tokens", "too long", "wrong type", "no such tool"],
)
def test_what_the_engine_refuses_keeps_its_status_and_its_words(serving: Serving, body: Mapping[str, Any]) -> None:
    direct, relayed = serving.direct(CHAT, body), serving.relayed(CHAT, body)
    assert relayed.status_code == direct.status_code == 400
    said, told = direct.json()["error"], relayed.json()["error"]
    assert (told["message"], told["param"]) == (said["message"], said["param"])


def test_a_route_that_the_engine_has_not_is_named(serving: Serving) -> None:
    refused = serving.relayed("/v1/embeddings", {"input": "hello"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unsupported_route")
    assert MODEL in refused.json()["error"]["message"]


def events_of(answer: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in answer.split(b"\n\n") if event]


@pytest.mark.parametrize(
    ("dialect", "body"),
    [(dialects.CHAT, {"messages": ASKED, **NO_REASONING}), (dialects.COMPLETIONS, {"prompt": "hello"})],
    ids=["chat", "completion"],
)
def test_the_rest_of_an_answer_that_broke_off_is_asked_for_in_words_that_the_engine_knows(
    serving: Serving, dialect: Dialect, body: Mapping[str, Any]
) -> None:
    asked = {"model": MODEL, **body, **USAGE, "temperature": 0, "max_tokens": 60, "ignore_eos": True}
    begun = Transcript(dialect, orjson.dumps(asked))
    begun.note(b"".join(events_of(serving.direct(dialect.path, asked).content)[:6]))
    assert begun.continued
    question = {"prompt": begun.continued, "add_special_tokens": False}
    said = serving.direct("/tokenize", question).raise_for_status().json()["count"]
    assert 0 < said < 60
    rest = begun.rest(said)
    assert rest is not None
    answer = serving.direct(dialect.path, rest)
    assert answer.status_code == 200, answer.text
    joined = Seam(begun, said).join(answer.content)
    begun.note(joined)
    assert begun.rest() is None  # its end went out
    assert begun.pieces > 6
    (usage,) = re.findall(rb'"completion_tokens":(\d+)', joined)
    assert int(usage) == 60


def told(answer: httpx.Response) -> Mapping[str, str]:
    return {name: answer.headers[name] for name in ("content-type", "content-length")}


_IDS = re.compile(rb"\b((?:chatcmpl-tool|chatcmpl|cmpl|resp|rs|msg|item|call|fc)[-_])[0-9a-f-]{8,}")
_SIGNATURES = re.compile(rb'("signature": ?")[0-9a-f]+')  # of a message's thinking
_TIMES = re.compile(rb'("(?:created|created_at|completed_at)": ?)[\d.]+')


def comparable(answer: bytes) -> bytes:
    """Without what no two answers have in common."""
    for chance in (_IDS, _TIMES, _SIGNATURES):
        answer = chance.sub(rb"\g<1>0", answer)
    return answer
