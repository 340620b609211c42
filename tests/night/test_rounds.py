"""The janitor's process: its clients serve one round after another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from control_plane import janitor
from control_plane.adapters import Adapters
from control_plane.errors import Unavailable
from control_plane.event import EventKind
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


# -- a task whose end called it

TASK = {
    "taskArn": "arn:aws:ecs:us-east-1:1:task/diogenes-prod/1",
    "lastStatus": "DEPROVISIONING",
    "stopCode": "EssentialContainerExited",
    "stoppedReason": "Essential container in task exited",
    "containers": [{"name": "control-plane", "exitCode": 139}],
}
EVENT = {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": TASK}
SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
BY_ORDER = {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Scaling activity initiated by (deployment 1)"}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Lambda's process of the function."""
    opened = Opened()
    with closing(Rounds(Settings(listener_arn="arn:listener"), opened, clock=opened.world.clock)) as rounds:
        monkeypatch.setattr(janitor, "_rounds", rounds)
        yield opened


def test_a_task_that_ended_by_itself_is_told_once_with_its_reason_and_counts_as_nothing_mended(called: Opened) -> None:
    found = janitor.handler(EVENT, None)
    janitor.handler({**EVENT, "detail": {**TASK, "lastStatus": "STOPPED"}}, None)
    (event,) = called.world.events.kept
    assert (event.kind, event.cause) == (EventKind.TASK_FAILED, "janitor")
    assert event.message == (
        "A task of the control plane ended, and nobody had told it to: "
        "Essential container in task exited (exit code 139)."
    )
    assert "aws logs tail /diogenes-prod/control-plane" in str(event.data["fix"])
    assert found["mended"] == 0
    janitor.handler({**EVENT, "detail": {**TASK, "taskArn": "arn:aws:ecs:us-east-1:1:task/diogenes-prod/2"}}, None)
    assert len(called.world.events.kept) == 2


@pytest.mark.parametrize(
    "event", [SCHEDULED, {**EVENT, "detail": {**TASK, **BY_ORDER}}, {**EVENT, "detail": {"taskArn": "arn"}}, {}, None]
)
def test_of_the_schedule_an_order_and_what_says_nothing_nothing_is_told(called: Opened, event: object) -> None:
    assert janitor.handler(event, None)["state"] == "asleep"
    assert called.world.events.kept == []


def test_an_end_that_cannot_be_told_keeps_no_round_from_its_end(called: Opened) -> None:
    called.world.events.broken.fail("add", Unavailable("throttled"))
    assert janitor.handler(EVENT, None)["state"] == "asleep"
    janitor.handler({**EVENT, "detail": {**TASK, "lastStatus": "STOPPED"}}, None)
    assert [event.kind for event in called.world.events.kept] == [EventKind.TASK_FAILED]
