"""Which node a request goes to: its conversation's own, unless that is busier than the others by a margin."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from control_plane.affinity import LEAD_CHARS, MARGIN, key_of, prefer, seed_of


@dataclass
class Node:
    name: str
    in_flight: int = 0

    @property
    def seed(self) -> int:
        return seed_of(self.name)


def nodes(count: int, *loads: int) -> list[Node]:
    return [Node(f"i-{n:017x}", loads[n] if n < len(loads) else 0) for n in range(count)]


def talk(first: str, *more: str, system: str = "Be brief.") -> dict[str, Any]:
    said = [{"role": "system", "content": system}, {"role": "user", "content": first}]
    for number, words in enumerate(more):
        said.append({"role": "user" if number % 2 else "assistant", "content": words})
    return {"messages": said}


def test_all_turns_of_a_conversation_have_one_key() -> None:
    assert key_of(talk("hi")) == key_of(talk("hi", "Hello", "And now?", "What?", "x" * 5000)) != 0


def test_conversations_differ_by_their_beginning() -> None:
    keys = {key_of(talk(f"question {number}")) for number in range(1000)}
    assert len(keys) > 990
    assert key_of(talk("hi", system="a")) != key_of(talk("hi", system="b"))


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": "Once upon a time"}, {"prompt": ["Once", "Twice"]}, {"input": "hi", "instructions": "Be brief."},
        {"input": [{"role": "user", "content": "hi"}]},
        {"system": "Be brief.", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"system": [{"type": "text", "text": "Be brief."}], "messages": [{"role": "user", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "\ud83d"}]},
    ],
    ids=str,
)  # fmt: skip
def test_every_route_has_a_beginning(request_: dict[str, Any]) -> None:
    assert key_of(request_) != 0


@pytest.mark.parametrize(
    "odd", [{}, {"messages": []}, {"messages": [7, None]}, {"prompt": [1, 2]}, {"input": {}}, {"messages": ""}]
)
def test_what_has_none_has_no_key(odd: dict[str, Any]) -> None:
    assert key_of(odd) == 0


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    assert key_of({"prompt": "x" * LEAD_CHARS + "a"}) == key_of({"prompt": "x" * LEAD_CHARS + "b"})


def test_a_conversation_comes_back_to_its_node_while_nothing_else_goes_on() -> None:
    there = nodes(4)
    for number in range(50):
        key = key_of(talk(f"question {number}"))
        assert len({prefer(there, key).name for _ in range(5)}) == 1


def test_conversations_are_spread() -> None:
    there = nodes(4)
    counts = Counter(prefer(there, key_of(talk(f"question {number}"))).name for number in range(4000))
    assert all(800 < count < 1200 for count in counts.values()), counts


def test_a_node_that_goes_moves_only_its_own_conversations() -> None:
    there = nodes(5)
    keys = [key_of(talk(f"question {number}")) for number in range(500)]
    before = {key: prefer(there, key).name for key in keys}
    after = {key: prefer(there[:4], key).name for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != there[4].name)


def test_a_preferred_node_that_is_busier_by_the_margin_is_passed_over() -> None:
    key = key_of(talk("hi"))
    there = nodes(2)
    own = prefer(there, key)
    (other,) = [node for node in there if node is not own]
    own.in_flight = 1
    assert prefer(there, key) is own
    own.in_flight, other.in_flight = 10, 8  # the share is 1.25 x 19 / 2
    assert prefer(there, key) is own
    own.in_flight, other.in_flight = 12, 6
    assert prefer(there, key) is other


def test_no_node_gets_more_than_its_share_and_the_margin_whatever_comes() -> None:
    rng = random.Random(1)
    there = nodes(3)
    hot = key_of(talk("the one that all ask"))
    for number in range(300):
        prefer(there, hot if rng.random() < 0.7 else key_of(talk(str(number)))).in_flight += 1
        total = sum(node.in_flight for node in there)
        assert max(node.in_flight for node in there) <= MARGIN * total / 3 + 1


def test_without_a_key_the_one_with_the_least_to_do() -> None:
    assert prefer(nodes(3, 2, 1, 5), 0).in_flight == 1
