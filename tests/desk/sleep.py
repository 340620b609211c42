"""A desk with a front, as its sleep is seen from outside."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.schema import CONTROL
from rehearsal.desk import FrontOptions
from tests.desk.story import NAMESPACE, Story, until

ENVIRONMENT = {
    "DIOGENES_CONTROL_PLANE_IDLE_TIMEOUT_S": "3",
    "DIOGENES_LINGER_S": "2",
    "DIOGENES_PROPAGATION_S": "3",
    "DIOGENES_CANCEL_GRACE_S": "20",
    "DIOGENES_DEREGISTRATION_DELAY_S": "20",
    "DIOGENES_FAREWELL_S": "8",
    "DIOGENES_MAX_HOLDS": "24",  # whoever finds none waits for a minute, and no story here is about that
}
FRONT = FrontOptions(propagation_s=1.5, check_interval_s=0.5, deregistration_s=20.0, early=True, janitor_every_s=5.0)

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
