"""One desk for all that is looked at in a browser: it begins asleep, and each story wakes a model of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.desk.sleep import ENVIRONMENT, FRONT
from tests.desk.story import Story, opened
from tests.geometries import LLAMA_8B_LONG
from tests.web.browser import browser_missing

MODELS = ("first", "reloaded", "shared", "offline", "ended", "cancelled", "small")
SIZED = {
    "name": "sized",  # never started: what it needs is given by hand, so no hub is asked
    "instanceTypes": ["g5.xlarge"],
    "vllmArgs": "--max-model-len 8192",
    "geometry": dict(LLAMA_8B_LONG),
}
UNLUCKY = "unlucky"  # AWS never has a machine for it


@pytest.fixture(scope="package")
def desk_story() -> Iterator[Story]:
    if missing := browser_missing():
        pytest.skip(missing)
    environment = {**ENVIRONMENT, "REHEARSAL_TOKEN_SECONDS": "0.03"}
    with opened(
        *MODELS, SIZED, UNLUCKY, idle_seconds=6, load_seconds=2.0, environment=environment, front=FRONT
    ) as story:
        story.desk.add_fault(refuse="capacity", model=UNLUCKY, times="always")
        yield story


@pytest.fixture
def story(desk_story: Story) -> Story:
    return desk_story
