"""What is read of a request, what is added to it, and how attempts are counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.dialect import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect
from control_plane.errors import BodyTooLarge, InvalidRequest
from control_plane.exchange import Receive
from control_plane.routes.admission import (
    ATTEMPT_MEMORY_S,
    MAX_ATTEMPTS_KEPT,
    Attempts,
    Incoming,
    max_wait_s,
    parse,
    read_body,
    wait_left_s,
)
from tests.memory import FakeClock

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi {there}"}], "prompt": "p", "input": "i"}


def receiving(*chunks: bytes, disconnects: bool = False) -> Receive:
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": disconnects or number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]
    if disconnects:
        messages.append({"type": "http.disconnect"})

    async def receive() -> MutableMapping[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


# -- the body


@given(st.lists(st.binary(max_size=20), min_size=1))
async def test_a_body_is_put_together_from_its_chunks(chunks: list[bytes]) -> None:
    assert await read_body(receiving(*chunks), {}, limit=10_000) == b"".join(chunks)


@pytest.mark.parametrize("chunks", [(b"x" * 11,), (b"x" * 6, b"x" * 5), (b"x",) * 11])
async def test_a_body_over_the_limit_is_refused(chunks: Iterable[bytes]) -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(receiving(*chunks), {}, limit=10)


async def test_an_announced_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(receiving(), {b"content-length": b"11"}, limit=10)


async def test_a_client_that_leaves_while_it_sends_is_no_fault_of_ours() -> None:
    with pytest.raises(InvalidRequest, match="left"):
        await read_body(receiving(b"{", disconnects=True), {}, limit=10)


async def test_the_rest_of_a_body_is_taken_in_but_not_more_than_the_bound() -> None:
    incoming = Incoming(receiving(*[b"x" * 10] * 5, b"last"))
    await incoming.discard(limit=25)
    assert await incoming() == {"type": "http.request", "body": b"x" * 10, "more_body": True}
    await incoming.discard(limit=1000)
    await incoming.discard(limit=1000)  # nothing is left to wait for


# -- what is read of it


def test_the_bytes_of_a_request_are_passed_as_they_are() -> None:
    for dialect in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES):
        body = json.dumps(ASK).encode()
        parsed = parse(dialect, body)
        assert (parsed.model, parsed.stream, parsed.body is body, parsed.strip_usage) == ("m", False, True, False)


@pytest.mark.parametrize("dialect", [RESPONSES, MESSAGES, EMBEDDINGS])
def test_a_stream_that_tells_its_usage_anyway_is_passed_as_it_is(dialect: Dialect) -> None:
    body = json.dumps({**ASK, "stream": True}).encode()
    assert parse(dialect, body).body is body


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("options", ["absent", None, {}, {"include_usage": False}, {"include_usage": None, "x": 1}])
@pytest.mark.parametrize("indent", [None, 2])
def test_usage_is_asked_for_on_our_account(dialect: Dialect, options: Any, indent: int | None) -> None:
    request = {**ASK, "stream": True} if options == "absent" else {**ASK, "stream": True, "stream_options": options}
    parsed = parse(dialect, b" \n" + json.dumps(request, indent=indent).encode())
    assert parsed.strip_usage
    asked = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    assert json.loads(parsed.body) == {**request, "stream_options": asked}


def test_usage_that_the_client_asks_for_is_its_own() -> None:
    body = json.dumps({**ASK, "stream": True, "stream_options": {"include_usage": True}}).encode()
    parsed = parse(CHAT, body)
    assert (parsed.body is body, parsed.strip_usage) == (True, False)


# -- headers


@pytest.mark.parametrize(("value", "seconds"), [(b"0", 0.0), (b"600", 600.0), (b"007", 7.0)])
def test_a_wait_is_a_number_of_seconds(value: bytes, seconds: float) -> None:
    assert max_wait_s({b"x-diogenes-wait": value}) == seconds
    assert max_wait_s({}) is None


@pytest.mark.parametrize(
    ("query", "left_s"),
    [
        (b"", 60.0),
        (b"a=b", 60.0),
        (b"a=diogenes_wait_until", 60.0),
        (b"diogenes_wait_until=1020", 20.0),
        (b"\xff=1&diogenes_wait_until=1020&a=b", 20.0),
        (b"diogenes_wait_until=990", 0.0),
        (b"diogenes_wait_until=999999999999", 60.0),
    ],
)
def test_the_end_of_a_wait_in_the_address_makes_it_shorter_and_never_longer(query: bytes, left_s: float) -> None:
    assert wait_left_s(query, 60.0, 1000.0) == left_s


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"1.5", b"%C2%B2", b"9" * 5000, b"1&diogenes_wait_until=2"])
def test_an_end_that_is_no_single_time_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wait_left_s(b"diogenes_wait_until=" + value, 60.0, 1000.0)
    assert (refused.value.code, refused.value.param) == ("invalid_parameter", "diogenes_wait_until")


def test_attempts_are_counted_by_body_and_owner_for_a_while() -> None:
    clock = FakeClock()
    attempts = Attempts(clock)
    js = {b"x-stainless-lang": b"js", b"x-stainless-retry-count": b"0"}
    assert [attempts.count(js, owner="ann", body=b"a") for _ in range(3)] == [0, 1, 2]
    assert attempts.count({b"user-agent": b"ai/6.0"}, owner="ann", body=b"a") == 3
    assert attempts.count(js, owner="bob", body=b"a") == 0
    assert attempts.count(js, owner="ann", body=b"b") == 0
    clock.step(ATTEMPT_MEMORY_S)
    assert attempts.count(js, owner="ann", body=b"a") == 0


def test_the_same_words_twice_are_two_questions_of_a_client_that_counts_its_own() -> None:
    attempts = Attempts(FakeClock())
    assert [attempts.count({}, owner="ann", body=b"a") for _ in range(2)] == [0, 0]
    python = {b"x-stainless-lang": b"python", b"x-stainless-retry-count": b"0"}
    assert [attempts.count(python, owner="ann", body=b"a") for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(("told", "count"), [(b"2", 2), (b"-1", 0), (b"x", 0), (b"", 0), (b"9" * 5000, 0)])
def test_a_clients_own_count_is_believed_when_it_is_one(told: bytes, count: int) -> None:
    assert Attempts(FakeClock()).count({b"x-stainless-retry-count": told}, owner="ann", body=b"a") == count


def test_attempts_do_not_fill_the_memory() -> None:
    attempts = Attempts(FakeClock())
    for number in range(MAX_ATTEMPTS_KEPT + 10):
        attempts.count({b"x-stainless-lang": b"js"}, owner="ann", body=str(number).encode())
    assert len(attempts._seen) <= MAX_ATTEMPTS_KEPT


def test_embeddings_come_whole_though_a_stream_was_asked_for() -> None:
    parsed = parse(EMBEDDINGS, b'{"model": "m", "input": "hi", "stream": true}')
    assert (parsed.stream, parsed.strip_usage) == (False, False)
