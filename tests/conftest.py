"""How the tests are shared out among several processes (`make test`): what belongs together stays together; and that no
test looks at how long something took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

settings.register_profile("noisy machines", deadline=None)
settings.load_profile("noisy machines")

WHOLE = ("image", "vllm", "provider", "infra", "web")
"""Folders whose files share what is dear to make: a daemon and an image, an engine, a provider, a desk."""

FIRST = ("image", "vllm", "desk", "web", "provider", "rehearsal")
"""What takes longest begins first. Of these, image, desk and web mostly wait, so that others get on beside them."""

REAL = ("image", "vllm", "desk", "web", "rehearsal", "people", "iam", "gpu_node")
"""Folders of tests that start processes and wait for them: on a machine that stalls for half a minute they may fail for
it, and are run once more. A run says which were (R, RERUN); what fails twice, or in any other folder, has failed."""


class Folders(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """One process runs a whole folder, where its files share something, else a whole file.

    Not xdist's own groups: it writes them into a field of pytest's that pytest 9.2 no longer reads, and then shares
    out test by test.
    """

    def _split_scope(self, nodeid: str) -> str:
        place = _place(nodeid)
        return place[0] if place[0] in WHOLE else "/".join(place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Folders:
    return Folders(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(_place(item.nodeid)))
    for item in items:
        if _place(item.nodeid)[0] in REAL:
            item.add_marker(pytest.mark.flaky(reruns=1))


def _place(nodeid: str) -> Sequence[str]:
    """Folder and file below ``tests``."""
    return nodeid.split("::", maxsplit=1)[0].removeprefix("tests/").split("/")


def _turn(place: Sequence[str]) -> int:
    return FIRST.index(place[0]) if place[0] in FIRST else len(FIRST)
