from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.people.doors import FRONTS, Browser, Front, opened


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """Everything asleep or awake: each test runs at both front doors."""
    with opened(request.param) as front:
        yield front


@pytest.fixture
def browser(front: Front) -> Browser:
    return Browser(front)
