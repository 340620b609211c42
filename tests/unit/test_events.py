"""What the relay sees in an engine's event stream, however the network cut it to pieces."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.dialect import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Dialect
from control_plane.events import MAX_CARRY_BYTES, MAX_KEPT_BYTES, EventStream, WholeAnswer, cut_short, upstream_error
from control_plane.usage import Tokens
from gpu_node.protocol import Failure

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
COUNTED = Tokens(prompt=7, cached=2, completion=3)


def event(payload: dict[str, Any], *, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(payload, separators=(',', ':'))}\n\n".encode()


def token(text: str) -> bytes:
    return event({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]})


USAGE_EVENT = event({"id": "c", "choices": [], "usage": USAGE})
ANSWER = token("a") + token('says "usage"') + token("b") + USAGE_EVENT + DONE
STRIPPED = ANSWER.replace(USAGE_EVENT, b"")

ANTHROPIC = (
    event(
        {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}, name="message_start"
    )
    + event({"type": "content_block_delta", "delta": {"text": "hi"}}, name="content_block_delta")
    + event({"type": "message_delta", "usage": {"output_tokens": 5}}, name="message_delta")
    + event({"type": "message_stop"}, name="message_stop")
)
RESPONSE = event(
    {"type": "response.created", "response": {"error": None, "usage": None}}, name="response.created"
) + event(
    {
        "type": "response.completed",
        "response": {
            "error": None,
            "usage": {"input_tokens": 4, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 1}},
        },
    },
    name="response.completed",
)


def through(stream: EventStream, pieces: Iterable[bytes]) -> list[bytes]:
    """What came out, piece by piece, with what was held back last."""
    return [*(stream.feed(piece) for piece in pieces), stream.rest()]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


# -- usage


@pytest.mark.parametrize("strip", [True, False])
def test_the_usage_is_found_wherever_the_stream_is_cut(strip: bool) -> None:
    for place in range(len(ANSWER) + 1):
        stream = EventStream(CHAT, strip_usage=strip)
        out = through(stream, cut(ANSWER, [place]))
        assert b"".join(out) == (STRIPPED if strip else ANSWER), place
        assert (stream.tokens, stream.complete) == (COUNTED, True), place


@given(st.lists(st.integers(0, len(ANSWER)), max_size=30), st.booleans())
def test_nothing_is_lost_or_doubled_and_events_stay_whole(places: list[int], strip: bool) -> None:
    stream = EventStream(CHAT, strip_usage=strip)
    out = through(stream, cut(ANSWER, places))
    assert b"".join(out) == (STRIPPED if strip else ANSWER)
    assert all(piece.endswith(b"\n\n") for piece in out if piece)
    assert stream.tokens == COUNTED


@pytest.mark.parametrize(
    ("dialect", "answer", "tokens"),
    [
        (CHAT, ANSWER, COUNTED),
        (COMPLETIONS, ANSWER, COUNTED),
        (MESSAGES, ANTHROPIC, Tokens(prompt=9, completion=5)),
        (RESPONSES, RESPONSE, Tokens(prompt=4, cached=1, completion=6)),
    ],
)
def test_each_dialect_passes_untouched_with_its_tokens_counted(dialect: Dialect, answer: bytes, tokens: Tokens) -> None:
    for size in (1, 7, 64, len(answer)):
        stream = EventStream(dialect, strip_usage=False)
        assert b"".join(through(stream, cut(answer, range(size, len(answer), size)))) == answer
        assert (stream.tokens, stream.complete) == (tokens, True)


def test_usage_beside_a_choice_is_counted_but_never_taken_out() -> None:
    both = event({"choices": [{"delta": {"content": "a"}}], "usage": USAGE})
    stream = EventStream(CHAT, strip_usage=True)
    assert stream.feed(both) == both
    assert stream.tokens == COUNTED


def test_usage_that_grows_with_every_chunk_is_counted_once() -> None:
    stream = EventStream(CHAT, strip_usage=False)
    for number in (1, 2, 3):
        stream.feed(event({"choices": [{}], "usage": {"prompt_tokens": 7, "completion_tokens": number}}))
    assert stream.tokens == Tokens(prompt=7, completion=3)


@pytest.mark.parametrize("usage", [None, 7, "x", [], {}, {"prompt_tokens": "7"}, {"prompt_tokens_details": 3}])
def test_a_usage_of_the_wrong_form_breaks_nothing(usage: object) -> None:
    odd = event({"choices": [{}], "usage": usage})
    stream = EventStream(CHAT, strip_usage=False)
    assert stream.feed(odd) == odd
    assert stream.tokens in (None, Tokens())


def test_cached_tokens_of_the_wrong_form_count_as_none() -> None:
    stream = EventStream(CHAT, strip_usage=False)
    stream.feed(
        event({"choices": [{}], "usage": {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": "2"}}})
    )
    assert stream.tokens == Tokens(prompt=7)


# -- the end


@pytest.mark.parametrize(
    ("dialect", "answer"), [(CHAT, ANSWER), (COMPLETIONS, ANSWER), (MESSAGES, ANTHROPIC), (RESPONSES, RESPONSE)]
)
def test_a_stream_is_complete_only_with_its_end_mark(dialect: Dialect, answer: bytes) -> None:
    last = answer.rstrip().rfind(b"\n\n") + 2
    stream = EventStream(dialect, strip_usage=False)
    through(stream, [answer[:last]])
    assert not stream.complete
    through(stream, [answer[last:]])
    assert stream.complete


@pytest.mark.parametrize("name", ["response.incomplete", "response.failed"])
def test_a_response_that_ended_otherwise_is_complete_too(name: str) -> None:
    stream = EventStream(RESPONSES, strip_usage=False)
    stream.feed(event({"type": name, "response": {}}, name=name))
    assert stream.complete


@pytest.mark.parametrize(("dialect", "mark"), [(CHAT, "data: [DONE]"), (MESSAGES, "event: message_stop")])
def test_an_answer_that_talks_about_end_marks_is_not_at_its_end(dialect: Dialect, mark: str) -> None:
    for pieces in ([token(f"send {mark}")], cut(token(f"send {mark}"), [20])):
        stream = EventStream(dialect, strip_usage=False)
        through(stream, pieces)
        assert not stream.complete


def test_what_is_held_back_comes_out_at_the_end() -> None:
    stream = EventStream(CHAT, strip_usage=True)
    assert stream.feed(DONE[:-1]) == b""
    assert stream.rest() == DONE[:-1]
    assert stream.complete
    assert stream.rest() == b""


def test_an_event_of_unreasonable_size_passes_as_it_is() -> None:
    huge = token("x" * (2 * MAX_CARRY_BYTES)) + DONE
    stream = EventStream(CHAT, strip_usage=False)
    out = through(stream, cut(huge, range(500_000, len(huge), 500_000)))
    assert b"".join(out) == huge
    assert stream.complete


# -- errors


@pytest.mark.parametrize(
    "payload",
    [
        {"error": {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}},
        {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},
        {"error": "boom"},
        {"type": "error", "error": {"message": "boom"}},
    ],
)
def test_an_error_in_the_stream_is_kept_and_ends_it(payload: dict[str, Any]) -> None:
    for place in range(len(event(payload))):
        stream = EventStream(CHAT, strip_usage=False)
        out = b"".join(through(stream, cut(token("a") + event(payload) + DONE, [len(token("a")) + place])))
        assert out == token("a")
        assert stream.error
        assert (stream.error.message, stream.error.kind, stream.error.code) == ("boom", "server_error", "engine_error")


def test_an_anthropic_error_is_kept_too() -> None:
    error = event({"type": "error", "error": {"type": "api_error", "message": "boom"}}, name="error")
    stream = EventStream(MESSAGES, strip_usage=False)
    assert stream.feed(error) == b""
    assert stream.error
    assert stream.error.message == "boom"


def test_who_was_cut_short_is_told_why_where_that_is_known() -> None:
    why = Failure("cuda_error", "A kernel failed.", "A new node is started.")
    assert cut_short().details == {}
    told = cut_short(why)
    assert (told.code, told.details) == (
        "engine_lost",
        {"failure": {"code": "cuda_error", "message": "A kernel failed.", "fix": "A new node is started."}},
    )
    assert "A kernel failed." in told.message


def test_a_token_that_speaks_of_errors_is_none() -> None:
    spoken = token('{"error": "detail"}') + event({"choices": [{}], "error": None})
    assert EventStream(CHAT, strip_usage=False).feed(spoken) == spoken


def test_what_is_no_json_passes() -> None:
    odd = b'data: {"error": oops\n\n' + b'data: {"usage"\n\n'
    assert EventStream(CHAT, strip_usage=True).feed(odd) == odd


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"error": {"message": "m", "code": "too_long", "param": "messages"}}, "m"),
        ({"object": "error", "message": "m"}, "m"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"msg": "x"}]}, "[{'msg': 'x'}]"),
        ({"error": "m"}, "m"),
        ({"error": {}, "object": "error"}, "The engine failed."),
    ],
)
def test_an_error_is_read_in_every_shape(payload: dict[str, Any], message: str) -> None:
    error = upstream_error(payload, status=400)
    assert error
    assert (error.message, error.http_status, error.kind) == (message, 400, "invalid_request_error")


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"error": None}, {"choices": []}])
def test_what_is_no_error_is_none(payload: object) -> None:
    assert upstream_error(payload, status=200) is None


# -- answers that are not streamed


def test_a_whole_answer_passes_and_is_counted() -> None:
    body = json.dumps({"choices": [], "usage": USAGE}).encode()
    answer = WholeAnswer()
    assert b"".join(answer.feed(piece) for piece in cut(body, [3, 9])) + answer.rest() == body
    assert (answer.tokens, answer.complete) == (COUNTED, True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"usage": 1}', b"x" * (2 * MAX_KEPT_BYTES)])
def test_a_whole_answer_without_usage_is_counted_without_tokens(body: bytes) -> None:
    answer = WholeAnswer()
    assert answer.feed(body) == body
    assert answer.tokens is None
