"""Scaling activities: what the groups did, and what they could not do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

WAITING = "MidTerminatingLifecycleAction"


@dataclass(frozen=True)
class Activity:
    """One scaling activity."""

    id: str
    group: str
    at: datetime
    description: str
    status: str = "Successful"  # or Failed, or WAITING
    message: str = ""


class Activities:
    """All of one region, oldest first."""

    def __init__(self, mint: Callable[[], str]) -> None:
        self._mint = mint
        self._all: list[Activity] = []

    def launched(self, group: str, instance_id: object) -> None:
        self._add(group, f"Launching a new EC2 instance: {instance_id}")

    def refused(self, group: str, message: str) -> None:
        self._add(group, "Launching a new EC2 instance", status="Failed", message=message)

    def ended(self, group: str, instance_id: object) -> Activity:
        """The instance is gone; where it had to wait, the activity that waited is done."""
        waiting = self.waiting(instance_id)
        if waiting is None:
            return self._add(group, _ending(instance_id))
        done = self._all[self._all.index(waiting)] = replace(waiting, status="Successful")
        return done

    def waits(self, group: str, instance_id: object) -> Activity:
        """The instance shall go, and has to wait."""
        return self._add(group, _ending(instance_id), status=WAITING)

    def waiting(self, instance_id: object) -> Activity | None:
        """The activity of an instance that waits."""
        text = _ending(instance_id)
        return next((one for one in self._all if (one.description, one.status) == (text, WAITING)), None)

    def of(self, group: str | None) -> Sequence[Activity]:
        """Newest first; of all groups where none is named."""
        return [activity for activity in reversed(self._all) if group in (None, activity.group)]

    def _add(self, group: str, description: str, *, status: str = "Successful", message: str = "") -> Activity:
        activity = Activity(self._mint(), group, datetime.now(UTC), description, status, message)
        self._all.append(activity)
        return activity


def _ending(instance_id: object) -> str:
    return f"Terminating EC2 instance: {instance_id}"
