"""What ECS tells of the service's tasks, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rehearsal.account import REGION
from rehearsal.ecs_records import EXITED, Tasks
from rehearsal.stack import NAMESPACE
from tests.rehearsal.conftest import Cloud


@pytest.fixture
def names(cloud: Cloud) -> tuple[str, str]:
    (cluster,) = cloud.client("ecs").list_clusters()["clusterArns"]
    (service,) = cloud.client("ecs").list_services(cluster=cluster)["serviceArns"]
    return cluster.rpartition("/")[2], service.rpartition("/")[2]


def listed(cloud: Cloud, names: tuple[str, str], status: str) -> list[str]:
    cluster, service = names
    told = cloud.client("ecs").list_tasks(cluster=cluster, serviceName=service, desiredStatus=status)
    return list(told["taskArns"])


def test_a_task_is_shown_as_it_runs_and_as_it_ended(cloud: Cloud, names: tuple[str, str]) -> None:
    task = cloud.account.begin_task(*names)
    assert (listed(cloud, names, "RUNNING"), listed(cloud, names, "STOPPED")) == ([task], [])
    cloud.account.end_task(task, EXITED, 137)
    assert (listed(cloud, names, "RUNNING"), listed(cloud, names, "STOPPED")) == ([], [task])
    (told,) = cloud.client("ecs").describe_tasks(cluster=names[0], tasks=[task])["tasks"]
    assert (told["lastStatus"], told["stopCode"]) == ("STOPPED", "EssentialContainerExited")
    assert told["stoppedReason"] == "Essential container in task exited"
    assert told["createdAt"] <= told["stoppedAt"]
    (container,) = told["containers"]
    assert container["exitCode"] == 137


def test_ecs_forgets_a_task_an_hour_after_its_end_and_never_one_that_runs(cloud: Cloud, names: tuple[str, str]) -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    tasks = Tasks(REGION, clock=lambda: now)
    runs, ends = tasks.begin(*names), tasks.begin(*names)
    tasks.end(ends, EXITED, 1)
    now += timedelta(minutes=59)
    third = tasks.begin(*names)
    assert listed(cloud, names, "STOPPED") == [ends]
    now += timedelta(minutes=2)
    fourth = tasks.begin(*names)
    assert listed(cloud, names, "STOPPED") == []
    assert set(listed(cloud, names, "RUNNING")) == {runs, third, fourth}


def test_a_task_has_what_the_program_told_its_container(cloud: Cloud, names: tuple[str, str]) -> None:
    assert cloud.account.task_environment(*names)["DIOGENES_NAMESPACE"] == NAMESPACE
