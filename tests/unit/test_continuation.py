"""What another engine is asked for when an answer breaks off, and how its events are joined to what went out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane.continuation import CONDENSE_BYTES, Seam, Transcript, can_keep
from control_plane.dialect import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect
from control_plane.usage import Tokens

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PROMPT = {"model": "m", "prompt": "Once", "stream": True}


def event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"id": "one", "created": 1, "model": "m", **payload}).encode() + b"\n\n"


def chat(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, **more}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def text(piece: str, reason: str | None = None, **more: Any) -> bytes:
    return event(
        {"object": "text_completion", "choices": [{"index": 0, "text": piece, "finish_reason": reason, **more}]}
    )


ROLE = chat({"role": "assistant", "content": ""})


def transcript(*sent: bytes, asked: dict[str, Any] | None = None, dialect: Dialect = CHAT) -> Transcript:
    known = Transcript(dialect, json.dumps(asked or (ASKED if dialect is CHAT else PROMPT)).encode())
    for events in sent:
        known.note(events)
    return known


def payloads(events: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in events.decode().split("\n\n") if line.startswith("data: {")]


# -- the request


def test_a_chat_goes_on_from_a_begun_message_of_the_assistant() -> None:
    rest = transcript(ROLE, chat({"content": "Hel"}), chat({"content": "lo"})).rest()
    assert rest == {
        **ASKED,
        "messages": [*ASKED["messages"], {"role": "assistant", "content": "Hello"}],  # type: ignore[misc]
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


def test_a_completion_goes_on_behind_its_prompt() -> None:
    rest = transcript(text(" upon"), text(" a"), dialect=COMPLETIONS).rest()
    assert rest == {**PROMPT, "prompt": "Once upon a"}
    listed = transcript(text(" upon"), asked={**PROMPT, "prompt": ["Once"]}, dialect=COMPLETIONS).rest()
    assert listed == {**PROMPT, "prompt": "Once upon"}


def test_an_answer_that_the_client_had_begun_itself_is_lengthened() -> None:
    begun = {**ASKED, "messages": [{"role": "assistant", "content": "1, 2"}], "continue_final_message": True}
    rest = transcript(ROLE, chat({"content": ", 3"}), asked=begun).rest()
    assert rest
    assert rest["messages"] == [{"role": "assistant", "content": "1, 2, 3"}]


def test_where_nothing_was_said_yet_the_question_is_asked_again() -> None:
    assert transcript(ROLE).rest() == ASKED
    assert transcript().rest() == ASKED
    assert transcript(ROLE, chat({"content": " \n"})).rest() == ASKED


@pytest.mark.parametrize(
    ("limit", "asked", "left"),
    [("max_tokens", 100, 90), ("max_completion_tokens", 100, 90), ("max_tokens", 5, 1), ("min_tokens", 5, 0)],
)
def test_what_was_said_counts_towards_the_limits(limit: str, asked: int, left: int) -> None:
    rest = transcript(ROLE, chat({"content": "x"}), asked={**ASKED, limit: asked}).rest(10)
    assert rest
    assert rest[limit] == left


@pytest.mark.parametrize(
    "bound",
    [
        {"n": 2}, {"logprobs": True}, {"top_logprobs": 3}, {"prompt_logprobs": 1}, {"echo": True}, {"best_of": 2},
        {"response_format": {"type": "json_schema", "json_schema": {}}}, {"structured_outputs": {"regex": "a+"}},
        {"guided_json": {}, "guided_regex": "a"}, {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"functions": [{"name": "f"}]},
        {"stream_options": {"continuous_usage_stats": True}}, {"suffix": "end"}, {"use_beam_search": True},
    ],
    ids=lambda bound: next(iter(bound)),
)  # fmt: skip
def test_what_is_bound_to_a_form_is_not_continued(bound: dict[str, Any]) -> None:
    assert transcript(ROLE, chat({"content": "x"}), asked={**ASKED, **bound}).rest() is None


@pytest.mark.parametrize(
    "free",
    [{"n": 1}, {"tools": [{"type": "function"}], "tool_choice": "auto"}, {"response_format": {"type": "text"}},
     {"logprobs": False}, {"stop": ["x"]}, {"seed": 1}, {"stream_options": {"include_usage": True}}],
    ids=lambda free: next(iter(free)),
)  # fmt: skip
def test_everything_else_is(free: dict[str, Any]) -> None:
    rest = transcript(ROLE, chat({"content": "x"}), asked={**ASKED, **free}).rest()
    assert rest
    assert {name: rest[name] for name in free} == free


@pytest.mark.parametrize(
    "other",
    [chat({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
     chat({"reasoning": "Well"}), chat({"reasoning_content": "Well"}), chat({"refusal": "No"}),
     chat({"content": "x"}, logprobs={"content": []}), chat({"content": "x"}, index=1),
     event({"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]}), chat({"content": "."}, "stop")],
)  # fmt: skip
def test_an_answer_that_is_more_than_text_or_over_is_not_continued(other: bytes) -> None:
    known = transcript(ROLE, chat({"content": "x"}), other, chat({"content": "y"}))
    assert known.rest() is None


def test_a_prompt_of_token_ids_is_not_continued() -> None:
    asked = {**PROMPT, "prompt": [1, 2, 3]}
    assert transcript(text("x"), asked=asked, dialect=COMPLETIONS).rest() is None
    several = {**PROMPT, "prompt": ["a", "b"]}
    assert transcript(text("x"), asked=several, dialect=COMPLETIONS).rest() is None


def test_only_two_routes_have_words_for_going_on() -> None:
    assert [can_keep(dialect) for dialect in (CHAT, COMPLETIONS)] == [True, True]
    assert not any(can_keep(dialect) for dialect in (EMBEDDINGS, RESPONSES, MESSAGES))


def test_of_a_long_answer_only_the_text_is_kept() -> None:
    known = transcript(ROLE, *(chat({"content": "x" * 10}) for _ in range(2000)))
    kept = sum(map(len, known._sent)) + sum(map(len, known._text))
    assert kept < 20_000 + CONDENSE_BYTES + 200
    assert known.text == "x" * 20_000


def test_of_what_cannot_be_continued_nothing_is_kept() -> None:
    known = transcript(ROLE, chat({"reasoning": "x"}), *(chat({"content": "x" * 10}) for _ in range(2000)))
    assert known.rest() is None
    known.note(chat({"content": "more"}))
    assert not known._sent
    assert not known._text


def test_comments_are_no_part_of_an_answer() -> None:
    assert transcript(b": keep-alive\n\n", ROLE, chat({"content": "a"}), b": x\n\n").text == "a"


# -- the seam


def test_the_rest_looks_as_if_the_first_engine_had_written_it() -> None:
    seam = Seam(transcript(ROLE, chat({"content": "Hel"})), 1)
    other = {"id": "two", "created": 2}
    first = event({**other, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    second = event({**other, "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}]})
    last = event({**other, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    joined = payloads(seam.join(first + second + last))
    assert [one["choices"][0]["delta"] for one in joined] == [{"content": "lo"}, {}]
    assert {(one["id"], one["created"]) for one in joined} == {("one", 1)}
    assert joined[-1]["choices"][0]["finish_reason"] == "length"


def test_a_role_that_never_went_out_goes_out_now() -> None:
    assert payloads(Seam(transcript(), 0).join(ROLE + chat({"content": "a"})))[0]["choices"][0]["delta"]["role"]


@pytest.mark.parametrize(
    ("sent", "again", "expected"),
    [("a \n", [" \n", "b"], "b"), ("a \n", [" ", "\nb"], "b"), ("a \n", ["b"], "b"), ("a ", ["  b"], " b"),
     ("a", [" b"], " b"), ("a\n\n", ["\n", "b", "\n"], "b\n")],
)  # fmt: skip
def test_white_space_that_is_said_again_is_said_once(sent: str, again: list[str], expected: str) -> None:
    seam = Seam(transcript(ROLE, chat({"content": sent})), 1)
    joined = payloads(b"".join(seam.join(chat({"content": piece})) for piece in again))
    assert "".join(one["choices"][0]["delta"]["content"] for one in joined) == expected


def test_a_completion_is_joined_the_same_way() -> None:
    seam = Seam(transcript(text("a "), dialect=COMPLETIONS), 1)
    joined = payloads(seam.join(text(" b") + text("", "stop")))
    assert [(one["choices"][0]["text"], one["choices"][0]["finish_reason"]) for one in joined] == [
        ("b", None),
        ("", "stop"),
    ]


def test_a_tool_call_that_begins_after_the_seam_is_handed_on() -> None:
    call = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}
    (joined,) = payloads(Seam(transcript(ROLE, chat({"content": "a"})), 1).join(chat(call)))
    assert joined["choices"][0]["delta"] == call


def test_usage_is_that_of_one_answer() -> None:
    seam = Seam(transcript(ROLE, chat({"content": "a b c"})), 3)
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 9},
    }
    (joined,) = payloads(seam.join(event({"choices": [], "usage": usage})))
    assert joined["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 7,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 7},
    }
    assert seam.tokens(Tokens(10, 9, 4)) == Tokens(7, 7, 7)
    assert seam.tokens(None) is None


@pytest.mark.parametrize(
    ("asked", "said", "spent"),
    [({"max_tokens": 5}, 4, False), ({"max_tokens": 5}, 5, True), ({"max_tokens": 5}, 6, True), ({}, 99, False),
     ({"max_completion_tokens": 5}, 5, True), ({"max_completion_tokens": 9, "max_tokens": 5}, 5, False)],
)  # fmt: skip
def test_a_limit_is_spent_when_so_much_was_said(asked: dict[str, int], said: int, spent: bool) -> None:
    assert transcript(ROLE, chat({"content": "x"}), asked={**ASKED, **asked}).spent(said) is spent


def test_where_the_limit_is_spent_nothing_more_is_said_and_the_answer_ends_by_its_length() -> None:
    sent = transcript(ROLE, chat({"content": "a b c"}), asked={**ASKED, "max_tokens": 3})
    seam = Seam(sent, 3)
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
    told = ROLE + chat({"content": " d"}) + chat({}, "stop", stop_reason=7) + event({"choices": [], "usage": usage})
    end, counted = payloads(seam.join(told))
    (choice,) = end["choices"]
    assert (choice["delta"], choice["finish_reason"], choice["stop_reason"]) == ({}, "length", None)
    assert counted["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert seam.tokens(Tokens(10, 9, 1)) == Tokens(7, 7, 3)


def test_text_that_comes_with_the_end_is_left_out_too() -> None:
    seam = Seam(transcript(text(" a"), asked={**PROMPT, "max_tokens": 1}, dialect=COMPLETIONS), 1)
    (end,) = payloads(seam.join(text(" b", "length")))
    assert (end["choices"][0]["text"], end["choices"][0]["finish_reason"]) == ("", "length")


def test_comments_errors_and_the_end_pass_as_they_are() -> None:
    seam = Seam(transcript(ROLE, chat({"content": "a"})), 1)
    passing = b': keep-alive\n\ndata: {"error": {"message": "boom"}}\n\ndata: [DONE]\n\n'
    assert seam.join(passing) == passing
