"""A desk with a front, as its sleep is seen from outside."""

from __future__ import annotations

from control_plane.schema import CONTROL
from rehearsal.desk import FrontOptions
from tests.desk.story import NAMESPACE, Story, until

ENVIRONMENT = {
    "DIOGENES_CONTROL_PLANE_IDLE_TIMEOUT_S": "3",
    "DIOGENES_LINGER_S": "2",
    "DIOGENES_PROPAGATION_S": "3",
    "DIOGENES_CANCEL_GRACE_S": "20",
}
FRONT = FrontOptions(propagation_s=1.5, check_interval_s=0.5, deregistration_s=4.0, janitor_every_s=5.0)


def front_state(story: Story) -> str:
    """As all have agreed on it."""
    row = story.desk.account.row(CONTROL.full_name(NAMESPACE), {"item": {"S": "front"}})
    return str((row or {}).get("state", "asleep"))


async def asleep(story: Story) -> None:
    """Returns once nothing runs, nothing is wanted, and the night watch is in front."""
    await until(lambda: _sleeps(story), "everything sleeps", 90.0)


def _sleeps(story: Story) -> bool:
    desk = story.desk
    weights = desk.account.weights(str(desk.stack.task_environment()["DIOGENES_LISTENER_ARN"]))
    night = desk.stack.task_environment()["DIOGENES_NIGHT_WATCH_GROUP_ARN"]
    return (
        not desk.front.service.tasks and not desk.instances() and front_state(story) == "asleep" and weights[night] == 1
    )
