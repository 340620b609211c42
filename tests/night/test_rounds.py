"""The janitor's process: its clients serve one round after another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from control_plane.adapters import Adapters
from control_plane.errors import Unavailable
from control_plane.janitor import Rounds
from control_plane.notice import NoticeAdapters
from control_plane.settings import InvalidSettings, Settings
from tests.memory import Faults
from tests.night.deployment import Deployment


class Opened:
    """The clients of a process: how often they were made, and closed."""

    def __init__(self) -> None:
        self.world = Deployment()
        self.made = self.closed = 0

    @asynccontextmanager
    async def __call__(self, settings: Settings) -> AsyncIterator[tuple[Adapters, NoticeAdapters]]:
        self.made += 1
        try:
            yield self.world.outside, self.world.notices.adapters
        finally:
            self.closed += 1


def test_the_rounds_of_a_process_share_its_clients_until_one_goes_wrong() -> None:
    opened = Opened()
    with closing(Rounds(Settings(listener_arn="arn:listener"), opened, clock=opened.world.clock)) as rounds:
        for _ in range(3):
            assert rounds().state == "asleep"
        assert (opened.made, opened.closed) == (1, 0)
        opened.world.stage.broken.fail("look", times=2)
        with pytest.raises(Unavailable):
            rounds()
        assert (opened.made, opened.closed) == (1, 1)
        opened.world.stage.broken = Faults()
        assert rounds().state == "asleep"
        assert (opened.made, opened.closed) == (2, 1)
    assert opened.closed == 2


def test_a_process_without_a_listener_has_no_rounds() -> None:
    with pytest.raises(InvalidSettings, match="LISTENER"):
        Rounds(Settings())
