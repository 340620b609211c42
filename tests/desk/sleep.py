"""A desk with a front, as its sleep is seen from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from control_plane.schema import CONTROL
from rehearsal.desk import FrontOptions
from tests.desk.story import NAMESPACE, Story, until

QUICK_TO_SLEEP = {
    "DIOGENES_CONTROL_PLANE_IDLE_TIMEOUT_S": "3",
    "DIOGENES_LINGER_S": "2",
    "DIOGENES_PROPAGATION_S": "3",
    "DIOGENES_CANCEL_GRACE_S": "20",
    "DIOGENES_DEREGISTRATION_DELAY_S": "20",
    "DIOGENES_FAREWELL_S": "8",
}
DELIVERED = FrontOptions(
    propagation_s=1.5, check_interval_s=0.5, deregistration_s=20.0, removal_s=1.0, early=True, janitor_every_s=5.0
)
"""With as many executions as a new account has."""

# Whoever cannot be held waits for a minute, and only test_crowd.py is about that: elsewhere the account is larger.
ENVIRONMENT = {**QUICK_TO_SLEEP, "DIOGENES_MAX_HOLDS": "24"}
FRONT = replace(DELIVERED, executions=32)

SLEEP_LIMIT_S = 90.0


def faces_night(story: Story) -> bool:
    """Where the listener points."""
    environment = story.desk.stack.task_environment()
    weights = story.desk.account.weights(str(environment["DIOGENES_LISTENER_ARN"]))
    return weights[environment["DIOGENES_NIGHT_WATCH_GROUP_ARN"]] == 1


def front_state(story: Story) -> str:
    """As all have agreed on it."""
    row = story.desk.account.row(CONTROL.full_name(NAMESPACE), {"item": {"S": "front"}})
    return str((row or {}).get("state", "asleep"))


def tasks(story: Story) -> int:
    """How many live, those that end as well."""
    return len(story.desk.front.service.tasks)


@contextmanager
def no_capacity(story: Story) -> Iterator[None]:
    """Fargate has none: however quick the machine is, no task is there for as long as this takes."""
    service = story.desk.front.service
    service.capacity = False
    try:
        yield
    finally:
        service.capacity = True


async def asleep(story: Story) -> None:
    """Returns once nothing runs, nothing is wanted, and the night watch is in front."""
    await until(
        lambda: not _awake(story), "everything sleeps", SLEEP_LIMIT_S, seen=lambda: f"Still: {', '.join(_awake(story))}"
    )


def _awake(story: Story) -> Sequence[str]:
    """What does not sleep."""
    desk = story.desk
    environment = desk.stack.task_environment()
    weights = desk.account.weights(str(environment["DIOGENES_LISTENER_ARN"]))
    looks = {
        f"{tasks(story)} tasks": tasks(story) > 0,
        f"instances {desk.instances()}": bool(desk.instances()),
        f"the state {front_state(story)}": front_state(story) != "asleep",
        f"the listener's weights {weights}": weights[environment["DIOGENES_NIGHT_WATCH_GROUP_ARN"]] != 1,
    }
    return [name for name, awake in looks.items() if awake]
