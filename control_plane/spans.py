"""What a trace is made of, and the header by which a client says of which trace its request is a part. Pure.

Our own few lines instead of OpenTelemetry's SDK: all times are known here, and need no instrumentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Attributes = Mapping[str, str | int | float | bool]

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class Context(NamedTuple):
    """Where a span stands: hexadecimal, of 32, 16 and 16 digits; without a parent, the first of its trace."""

    trace_id: str
    span_id: str
    parent_id: str = ""


class Parent(NamedTuple):
    """What a client said."""

    trace_id: str
    span_id: str
    sampled: bool  # False: nothing of this trace is kept


@dataclass(frozen=True)
class Span:
    """A stretch of time with a name. Unix seconds. Never holds a prompt, a key, a token or an address."""

    context: Context
    name: str
    start: float
    end: float
    attributes: Attributes = field(default_factory=dict)
    serves: bool = False  # it is a client's request
    error: str = ""  # a code; empty: all went well
    links: Sequence[Context] = ()


class NotSent(Exception):
    """Spans did not arrive; ``final`` where they never will."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


def parent_of(traceparent: bytes | None) -> Parent | None:
    """By W3C's Trace Context; None for what is missing or malformed, which begins a trace of its own."""
    found = _PARENT.fullmatch(traceparent or b"")
    if not found:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED))
