"""One desk for all that is looked at in a browser: it begins asleep, and each story wakes a model of its own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
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
GATED = "gated"  # its engine ends as without access to the repository
NO_QUOTA = "unallowed"  # AWS allows the account none of its machines
SECOND = (
    "second@example.org"  # let in before anybody looked: of somebody let in later, a process may hear a minute late
)


@pytest.fixture(scope="package")
def desk_story() -> Iterator[Story]:
    if missing := browser_missing():
        pytest.skip(missing)
    environment = {**ENVIRONMENT, "REHEARSAL_TOKEN_SECONDS": "0.03"}
    with opened(
        *MODELS, SIZED, UNLUCKY, GATED, NO_QUOTA, idle_seconds=6, load_seconds=2.0, environment=environment, front=FRONT
    ) as story:
        story.desk.add_fault(refuse="capacity", model=UNLUCKY, times="always")
        story.desk.add_fault(refuse="quota", model=NO_QUOTA, times="always")
        story.desk.add_fault(boot_failure="gated_model", model=GATED, times="always")
        let_in(story, SECOND)
        yield story


def let_in(story: Story, email: str) -> None:
    headers = {"authorization": f"Bearer {story.desk.api_key}"}
    url = f"{story.desk.web_url}api/allowlist/{email}"
    httpx.put(url, headers=headers, timeout=60, trust_env=False).raise_for_status()


@pytest.fixture
def story(desk_story: Story) -> Story:
    return desk_story
