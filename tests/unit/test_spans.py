"""Which trace a client names."""

from __future__ import annotations

import pytest

from control_plane.spans import Parent, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(TRACE, SPAN, sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(TRACE, SPAN, sampled=True)),
        (f"01-{TRACE}-{SPAN}-01-more", Parent(TRACE, SPAN, sampled=True)),  # of a version to come
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("\n", None),
        ("", None),
    ],
)
def test_a_trace_is_named_by_w3cs_header(header: str, found: Parent | None) -> None:
    assert parent_of(header.encode()) == found


def test_without_the_header_there_is_none() -> None:
    assert parent_of(None) is None
