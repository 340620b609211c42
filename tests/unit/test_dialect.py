"""Errors, signs of life and token counts in the words of each API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane.dialect import CHAT, COMPLETIONS, DIALECTS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect, tokens_of
from control_plane.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidApiKey,
    InvalidRequest,
    ModelNotFound,
    ModelStarting,
    QueueFull,
    RequestError,
)
from control_plane.usage import Tokens

OPENAI = [dialect for dialect in DIALECTS.values() if not dialect.anthropic]
ERROR = InvalidRequest("wrong", param="model", code="odd", details={"eta_s": 3})


@pytest.mark.parametrize("dialect", OPENAI)
def test_an_openai_error_has_all_its_members_always(dialect: Dialect) -> None:
    told = {"message": "wrong", "type": "invalid_request_error", "param": "model", "code": "odd", "eta_s": 3}
    assert json.loads(dialect.error_body(ERROR)) == {"error": told}
    bare = json.loads(dialect.error_body(RequestError("x")))["error"]
    assert bare == {"message": "x", "type": "server_error", "param": None, "code": None}


@pytest.mark.parametrize("dialect", OPENAI)
def test_an_error_event_is_followed_by_the_end_of_the_stream(dialect: Dialect) -> None:
    event, end, rest = dialect.error_event(ERROR).split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == "wrong"
    assert (end, rest) == (b"data: [DONE]", b"")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (InvalidApiKey("x"), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (QueueFull("x"), "rate_limit_error"),
        (ModelStarting("x"), "overloaded_error"),
        (RequestError("x"), "api_error"),
    ],
)
def test_an_anthropic_error_has_anthropics_type(error: RequestError, kind: str) -> None:
    told = {"type": "error", "error": {"type": kind, "message": "x"}}
    assert json.loads(MESSAGES.error_body(error)) == told
    name, data = MESSAGES.error_event(error).decode().rstrip("\n").split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == told


def test_an_empty_chunk_is_a_chunk_of_its_route() -> None:
    for dialect, kind in ((CHAT, "chat.completion.chunk"), (COMPLETIONS, "text_completion")):
        event = dialect.empty_chunk('m"', created=7)
        chunk = json.loads(event.removeprefix(b"data: "))
        assert (chunk["object"], chunk["model"], chunk["created"]) == (kind, 'm"', 7)
        assert event.endswith(b"\n\n")
    assert RESPONSES.empty_chunk("m", created=7) == EMBEDDINGS.empty_chunk("m", created=7) == b""


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, Tokens(7, 0, 3)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}, Tokens(7, 5, 0)),
        ({"prompt_tokens": 7, "prompt_tokens_details": None}, Tokens(7, 0, 0)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": None}}, Tokens(7, 0, 0)),
        ({"input_tokens": 4, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 1}}, Tokens(4, 1, 6)),
        ({"input_tokens": 4, "output_tokens": 6, "cache_read_input_tokens": 2}, Tokens(4, 2, 6)),
        ({"prompt_tokens": None, "completion_tokens": "3"}, Tokens()),
        ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": "x"}}, Tokens(1, 0, 0)),
        ({}, Tokens()),
        (None, None),
        ("many", None),
    ],
)
def test_tokens_are_read_from_any_routes_usage(usage: Any, tokens: Tokens | None) -> None:
    assert tokens_of(usage) == tokens
