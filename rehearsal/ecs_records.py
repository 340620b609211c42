"""The service's tasks as ECS shows them. moto starts none: here are theirs, where its own calls find them.

``Tasks`` is asked and told under the account's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

_KEPT = timedelta(hours=1)  # that ECS tells of a task that ended


@dataclass(frozen=True)
class End:
    """Why a task is no more, as ECS says it."""

    stop_code: str
    reason: str


EXITED = End("EssentialContainerExited", "Essential container in task exited")
SCALED = End("ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/desk)")
UNHEALTHY = End("ServiceSchedulerInitiated", "Task failed ELB health checks")


@dataclass(eq=False)
class _Record:
    """One task; the names are those under which moto looks for what it answers."""

    task_arn: str
    cluster_arn: str
    task_definition_arn: str
    group: str
    created_at: datetime
    container: str
    launch_type: str = "FARGATE"
    desired_status: str = "RUNNING"
    last_status: str = "RUNNING"
    stop_code: str | None = None
    stopped_reason: str | None = None
    stopped_at: datetime | None = None
    containers: list[Mapping[str, Any]] = field(default_factory=list)

    def advance(self) -> None:
        """moto would take each task a step further whenever somebody asks."""


class Tasks:
    """Of every service in one region."""

    def __init__(self, region: str, *, clock: Callable[[], datetime]) -> None:
        self._region = region
        self._clock = clock

    def desired(self, cluster: str, service: str) -> int:
        """How many the service shall run."""
        return int(self._ecs._get_service(cluster, service).desired_count)

    def environment(self, cluster: str, service: str) -> Mapping[str, str]:
        """The variables of the container, as the service's task definition has them now."""
        return {each["name"]: each["value"] for each in self._container(cluster, service).get("environment", [])}

    def pin(self, told: Mapping[str, Any]) -> None:
        """After an UpdateService: one that named a family has taken its newest revision, and no later one."""
        found = self._ecs._get_service(told.get("cluster", "default"), told["service"])
        found.task_definition = self._definition(found).arn

    def begin(self, cluster: str, service: str) -> str:
        """The ARN of a new one."""
        now = self._clock()
        kept = self._ecs.tasks.setdefault(cluster, {})
        for old in [arn for arn, record in kept.items() if record.stopped_at and record.stopped_at < now - _KEPT]:
            del kept[old]
        found = self._ecs._get_service(cluster, service)
        arn = f"arn:aws:ecs:{self._region}:{DEFAULT_ACCOUNT_ID}:task/{cluster}/{uuid.uuid4().hex}"
        kept[arn] = _Record(
            arn,
            self._ecs._get_cluster(cluster).arn,
            self._definition(found).arn,
            f"service:{service}",
            now,
            self._container(cluster, service)["name"],
        )
        return arn

    def end(self, arn: str, end: End, exit_code: int | None) -> None:
        """It is no more; ``exit_code`` is its process's, if it had one."""
        record: _Record = next(kept[arn] for kept in self._ecs.tasks.values() if arn in kept)
        record.desired_status = record.last_status = "STOPPED"
        record.stop_code, record.stopped_reason, record.stopped_at = end.stop_code, end.reason, self._clock()
        record.containers = [{"name": record.container, "last_status": "STOPPED", "exit_code": exit_code}]

    def _container(self, cluster: str, service: str) -> Mapping[str, Any]:
        (found,) = self._definition(self._ecs._get_service(cluster, service)).container_definitions
        container: Mapping[str, Any] = found
        return container

    def _definition(self, service: Any) -> Any:
        return self._ecs.describe_task_definition(service.task_definition)

    @property
    def _ecs(self) -> Any:
        return get_backend("ecs")[DEFAULT_ACCOUNT_ID][self._region]
