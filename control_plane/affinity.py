"""Which of several nodes a request goes to: the one that has its conversation in the prefix cache, unless it is busy.

Consistent hashing with bounded loads: the beginning of the conversation names the nodes in an order of its own; the
first that has less than its share of the load, and a margin, gets the request. A node that comes or goes moves only
the conversations that were its own. Costs nothing where there is one node. Pure.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

MARGIN = 1.25  # times the average load: so much fuller may the preferred node be
LEAD_CHARS = 2048  # of each part of the beginning
LEAD_PARTS = 8
_64_BITS = 2**64 - 1


class Loaded(Protocol):
    """A node with its load."""

    in_flight: int

    @property
    def seed(self) -> int: ...


T = TypeVar("T", bound=Loaded)


def key_of(request: Mapping[str, Any]) -> int:
    """What the turns of one conversation have in common: all up to the first thing that the user said. 0: nothing."""
    said = request.get("messages") or request.get("input") or request.get("prompt")
    lead = [_text(request.get("system") or request.get("instructions"))]
    if isinstance(said, list):
        lead += _until_user(said)
    else:
        lead.append(_text(said))
    text = "\0".join(lead)
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) if text.strip("\0") else 0


def seed_of(name: str) -> int:
    """A node's place in the order of every conversation."""
    return zlib.crc32(name.encode())


def prefer(nodes: Sequence[T], key: int) -> T:
    """Of at least one node. Without a key, the one with the least to do."""
    if not key:
        return min(nodes, key=lambda node: node.in_flight)
    share = math.ceil(MARGIN * (sum(node.in_flight for node in nodes) + 1) / len(nodes))
    free = [node for node in nodes if node.in_flight < share]  # never empty: the average is below the share
    return max(free, key=lambda node: _mixed(key ^ node.seed))


def _mixed(number: int) -> int:
    """Bits that all depend on all of the number's: who is greatest of several is as good as drawn by lot."""
    number = (number ^ number >> 16) * 0x9E3779B97F4A7C15 & _64_BITS
    number = (number ^ number >> 29) * 0xBF58476D1CE4E5B9 & _64_BITS
    return number ^ number >> 32


def _until_user(messages: Sequence[Any]) -> list[str]:
    lead = []
    for message in messages[:LEAD_PARTS]:
        lead.append(_text(message))
        if isinstance(message, dict) and message.get("role") == "user":
            break
    return lead


def _text(part: Any) -> str:
    """The words of a message, or of a part of one; images and the like count by being there."""
    if isinstance(part, str):
        return part[:LEAD_CHARS]
    if isinstance(part, dict):
        return _text(part.get("content") or part.get("text"))
    return "\1".join(_text(one) for one in part[:LEAD_PARTS]) if isinstance(part, list) else ""
