"""The service and the listener, over an emulated ECS and load balancer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from control_plane.aws_session import aws_session
from control_plane.errors import Unavailable
from control_plane.ports import Stage
from control_plane.stage import AwsStage, StageNames, open_stage
from rehearsal.ecs_records import EXITED, SCALED
from rehearsal.faults import Fault
from tests.contract.under_test import Desk

ATTEMPTS = 3  # of the SDK


def _target_group(namespace: str, part: str) -> str:
    client = boto3.client("elbv2")
    kind = "lambda" if part == "night" else "ip"
    where = {} if part == "night" else {"Protocol": "HTTP", "Port": 8080, "VpcId": _vpc()}
    made = client.create_target_group(Name=f"{namespace}-{part}", TargetType=kind, **where)
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def _vpc() -> str:
    return str(boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"])


def _listener(namespace: str, weights: dict[str, int]) -> str:
    client = boto3.client("elbv2")
    subnets = boto3.client("ec2").describe_subnets()["Subnets"][:2]
    balancer = client.create_load_balancer(Name=namespace, Subnets=[subnet["SubnetId"] for subnet in subnets])
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
    made = client.create_listener(
        LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
    )
    return str(made["Listeners"][0]["ListenerArn"])


def _service(namespace: str) -> None:
    client = boto3.client("ecs")
    client.create_cluster(clusterName=namespace)
    for _ in range(2):
        client.register_task_definition(
            family=namespace, containerDefinitions=[{"name": "control", "image": "x", "memory": 512}]
        )
    client.create_service(cluster=namespace, serviceName=namespace, taskDefinition=f"{namespace}:1", desiredCount=0)


@pytest.fixture
def names(desk: Desk, namespace: str) -> StageNames:
    control, night = _target_group(namespace, "control"), _target_group(namespace, "night")
    _service(namespace)
    return StageNames(namespace, namespace, _listener(namespace, {night: 1, control: 0}), control, night)


@pytest.fixture
async def stage(names: StageNames) -> AsyncIterator[AwsStage]:
    async with open_stage(aws_session(), names) as made:
        yield made


async def test_it_shows_what_is_there(stage: AwsStage) -> None:
    assert await stage.look() == Stage(desired=0, healthy=False, facing_control_plane=False)


async def test_the_listener_is_turned_and_turned_back(stage: AwsStage, names: StageNames) -> None:
    await stage.face(control_plane=True)
    await stage.face(control_plane=True)
    assert (await stage.look()).facing_control_plane
    await stage.face(control_plane=False)
    assert not (await stage.look()).facing_control_plane
    found = boto3.client("elbv2").describe_listeners(ListenerArns=[names.listener_arn])["Listeners"][0]
    (action,) = found["DefaultActions"]
    assert {group["TargetGroupArn"]: group["Weight"] for group in action["ForwardConfig"]["TargetGroups"]} == {
        names.control_plane_group_arn: 0,
        names.night_watch_group_arn: 1,
    }


async def test_a_wake_takes_the_newest_revision_of_then_and_sleep_changes_none(
    stage: AwsStage, names: StageNames
) -> None:
    client = boto3.client("ecs")

    def definition() -> str:
        (service,) = client.describe_services(cluster=names.cluster, services=[names.service])["services"]
        return str(service["taskDefinition"]).rpartition("/")[2]

    assert definition() == f"{names.service}:1"
    await stage.want(1)
    assert (await stage.look()).desired == 1
    assert definition() == f"{names.service}:2"
    client.register_task_definition(
        family=names.service, containerDefinitions=[{"name": "control", "image": "y", "memory": 512}]
    )
    await stage.want(0)
    assert (await stage.look()).desired == 0
    assert definition() == f"{names.service}:2"
    await stage.want(1)
    assert definition() == f"{names.service}:3"


async def test_a_registered_target_is_healthy(stage: AwsStage, names: StageNames) -> None:
    boto3.client("elbv2").register_targets(
        TargetGroupArn=names.control_plane_group_arn, Targets=[{"Id": "10.0.0.9", "Port": 8080}]
    )
    assert (await stage.look()).healthy


async def test_tasks_that_ended_since_are_told_with_their_reasons_the_newest_first(
    stage: AwsStage, names: StageNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulated ECS has neither their times nor such reasons: what ECS would say of their ends is put in."""
    since = datetime(2026, 11, 29, 12, tzinfo=UTC)
    ends = [
        ("CannotPullContainerError: no such image", "TaskFailedToStart", timedelta(seconds=-1)),
        ("CannotPullContainerError: ref not found", "TaskFailedToStart", timedelta(seconds=5)),
        ("Essential container in task exited", "EssentialContainerExited", timedelta(seconds=65)),
        ("Scaling activity initiated by (deployment ecs-svc/1)", "ServiceSchedulerInitiated", timedelta(seconds=70)),
    ]
    client, ended = boto3.client("ecs"), {}
    for reason, code, begun in ends:
        (task,) = client.run_task(cluster=names.cluster, taskDefinition=names.service, launchType="FARGATE")["tasks"]
        client.stop_task(cluster=names.cluster, task=task["taskArn"])
        ended[task["taskArn"]] = {
            "stoppedReason": reason,
            "stopCode": code,
            "createdAt": since + begun,
            "containers": [],
        }
    describe = stage._ecs.describe_tasks

    async def described(**asked: Any) -> Any:
        told = await describe(**asked)
        return {"tasks": [task | ended[task["taskArn"]] for task in told["tasks"]]}

    monkeypatch.setattr(stage._ecs, "describe_tasks", described)
    found = await stage.endings(since.timestamp())
    assert [ending.why for ending in found] == [
        "Essential container in task exited.",
        "CannotPullContainerError: ref not found.",
    ]
    assert f"aws logs tail /{names.cluster}/control-plane --since 30m" in found[0].fix


async def test_of_a_services_own_tasks_those_are_told_that_ended_by_themselves(
    stage: AwsStage, names: StageNames, desk: Desk
) -> None:
    crashed, ended_by_order, _living = (desk.account.begin_task(names.cluster, names.service) for _ in range(3))
    desk.account.end_task(crashed, EXITED, 2)
    desk.account.end_task(ended_by_order, SCALED, 0)
    (ending,) = await stage.endings(0.0)
    assert ending.why == "Essential container in task exited (exit code 2)."
    assert await stage.endings(time.time() + 1) == []


async def test_a_task_has_the_variables_of_the_revision_that_its_wake_took(
    stage: AwsStage, names: StageNames, desk: Desk
) -> None:
    def define(told: str) -> None:
        boto3.client("ecs").register_task_definition(
            family=names.service,
            containerDefinitions=[
                {"name": "control", "image": "x", "memory": 512, "environment": [{"name": "TOLD", "value": told}]}
            ],
        )

    define("first")
    await stage.want(1)
    define("second")
    await stage.want(0)
    assert desk.account.task_environment(names.cluster, names.service) == {"TOLD": "first"}
    await stage.want(1)
    assert desk.account.task_environment(names.cluster, names.service) == {"TOLD": "second"}


async def test_where_no_task_ended_there_is_nothing_to_tell(stage: AwsStage) -> None:
    assert await stage.endings(0.0) == []


@pytest.mark.parametrize("operation", ["ecs:ListTasks", "ecs:DescribeTasks"])
async def test_endings_that_cannot_be_read_are_told(
    stage: AwsStage, names: StageNames, desk: Desk, operation: str
) -> None:
    client = boto3.client("ecs")
    (task,) = client.run_task(cluster=names.cluster, taskDefinition=names.service, launchType="FARGATE")["tasks"]
    client.stop_task(cluster=names.cluster, task=task["taskArn"])
    desk.faults.add(Fault("fail", operation, times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await stage.endings(0.0)


async def test_a_target_on_its_way_out_is_not_healthy_and_told_apart(
    stage: AwsStage, names: StageNames, desk: Desk
) -> None:
    group = names.control_plane_group_arn
    desk.account.show_target(group, "10.0.0.8", "draining")
    desk.account.show_target(group, "10.0.0.9", "initial")
    found = await stage.look()
    assert (found.healthy, found.draining, found.standing) == (False, frozenset({"10.0.0.8"}), frozenset({"10.0.0.9"}))
    desk.account.show_target(group, "10.0.0.9", "healthy")
    desk.account.show_target(group, "10.0.0.8", None)
    found = await stage.look()
    assert (found.healthy, found.draining, found.standing) == (True, frozenset(), frozenset({"10.0.0.9"}))


@pytest.mark.parametrize(
    "operation",
    ["ecs:DescribeServices", "elasticloadbalancing:DescribeTargetHealth", "elasticloadbalancing:DescribeListeners"],
)
async def test_what_does_not_answer_is_told(stage: AwsStage, desk: Desk, operation: str) -> None:
    desk.faults.add(Fault("fail", operation, times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await stage.look()


async def test_a_turn_and_a_count_that_fail_are_told(stage: AwsStage, desk: Desk) -> None:
    desk.faults.add(Fault("fail", "elasticloadbalancing:ModifyListener", times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await stage.face(control_plane=True)
    desk.faults.add(Fault("fail", "ecs:UpdateService", times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await stage.want(1)


async def test_a_service_that_is_not_there_is_told(names: StageNames) -> None:
    nowhere = StageNames(names.cluster, "other", names.listener_arn, names.control_plane_group_arn, "arn")
    async with open_stage(aws_session(), nowhere) as stage:
        with pytest.raises(Unavailable):
            await stage.look()
