"""How the tests are shared out among several processes (`make test`): what belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

WHOLE = ("image", "vllm", "provider", "infra", "web")
"""Folders whose files share what is dear to make: a daemon and an image, an engine, a provider, a desk."""

FIRST = ("image", "vllm", "desk", "web", "provider", "rehearsal")
"""What takes longest begins first. Of these, image, desk and web mostly wait, so that others get on beside them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(_place(item)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(_place(item))))


def _place(item: pytest.Item) -> Sequence[str]:
    """Folder and file below ``tests``."""
    return item.nodeid.split("::", maxsplit=1)[0].removeprefix("tests/").split("/")


def _turn(place: Sequence[str]) -> int:
    return FIRST.index(place[0]) if place[0] in FIRST else len(FIRST)


def _group(place: Sequence[str]) -> str:
    return place[0] if place[0] in WHOLE else "/".join(place)
