"""Starts of the service's tasks that come to nothing, and what ECS tells of tasks that ended."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from control_plane.endings import ending_of
from control_plane.ports import Ending
from tests.simulation.timeline import EPOCH

STUCK = "stuck"  # it neither comes up nor ends
UNWELL_S = 30.0  # that ECS lets a task be found unhealthy
ENDED: Mapping[str, Mapping[str, Any]] = {
    "image": {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: failed to resolve ref"},
    "permission": {
        "stopCode": "TaskFailedToStart",
        "stoppedReason": "ResourceInitializationError: unable to pull secrets: AccessDeniedException",
    },
    "exit": {
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "containers": [{"exitCode": 1}],
    },
    "unwell": {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed ELB health checks in (target)"},
    "crash": {
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "containers": [{"exitCode": 137, "reason": "OutOfMemoryError: container killed"}],
    },
    "order": {
        "stopCode": "ServiceSchedulerInitiated",
        "stoppedReason": "Scaling activity initiated by (deployment ecs-svc/1)",
    },
    "person": {"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"},
}
"""By why it ended: an entry of DescribeTasks."""
NEVER_RAN = ("image", "permission")  # ECS makes ever longer pauses between these
PAUSE_S = (1.0, 5.0)
FATES = ("image", "permission", "exit", "unwell", STUCK)


@dataclass
class Starts:
    """Which of them fail. A definition is named by an order to run tasks, and by nothing else."""

    rng: random.Random
    newest: tuple[int, str] = (0, "")  # its number, and what becomes of its tasks; empty: they come up
    named: tuple[int, str] = (0, "")  # the one that the service runs
    unlucky: list[str] = field(default_factory=list)  # what becomes of the next starts, whatever their definition
    failed_at: float = -math.inf  # the last one
    good_at: float = 0.0  # since then the newest definition starts; infinite: it does not
    outdated: bool = False  # that one was by a definition which is not the newest
    _in_a_row: int = 0
    _ended: list[tuple[float, str]] = field(default_factory=list)  # when it was begun, and why it ended
    _failures: list[tuple[float, float]] = field(default_factory=list)  # when it was begun, and when it failed

    def define(self, fate: str, now: float) -> None:
        """A new task definition, which nothing runs yet."""
        self.newest = (self.newest[0] + 1, fate)
        self.good_at = math.inf if fate else now

    def name(self) -> None:
        self.named = self.newest

    def fate(self) -> str:
        """Of the next task; empty: it comes up."""
        return self.unlucky.pop(0) if self.unlucky else self.named[1]

    def fails(self, definition: int, now: float) -> None:
        """The start of a task that is begun by this one."""
        self.failed_at, self.outdated = now, definition != self.newest[0]

    def failed(self, fate: str, *, began_at: float, now: float) -> float:
        """A task ended at its start; the pause until ECS begins another."""
        self.ended(fate, began_at=began_at)
        self._failures.append((began_at, now))
        self._in_a_row = self._in_a_row + 1 if fate in NEVER_RAN else 0
        return self.rng.uniform(*PAUSE_S) * 2.0 ** max(0, self._in_a_row - 1)

    def ended(self, why: str, *, began_at: float) -> None:
        """Whatever the task had done until then."""
        self._ended.append((began_at, why))

    def failures(self, since: float) -> list[float]:
        """When those failed that were begun since then, the first of them first."""
        return [failed_at for began_at, failed_at in self._failures if began_at >= since]

    def endings(self, since: float) -> Sequence[Ending]:
        """As ``stage.AwsStage`` makes them of what ECS tells; ``since`` in Unix seconds."""
        begun = [why for began_at, why in sorted(self._ended, reverse=True) if EPOCH + began_at >= since]
        return [ending for why in begun if (ending := ending_of(ENDED[why], log="the log"))]
