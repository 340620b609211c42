"""The agent's writes, against an emulated DynamoDB and Auto Scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from control_plane.nodes import MOVES
from gpu_node.protocol import (
    DRAIN_HOOK,
    Failure,
    NodeState,
    Orders,
    Phase,
    PhaseRecord,
    Report,
    from_attributes,
    to_attributes,
)
from gpu_node.table import _SOURCES, FIRST_LEASE_S, ModelName, ModelRow, Names, Table, TableUnavailable
from tests.gpu_node.account import REGION, make_tables, one_instance_group

KEY = {"instance_id": {"S": "i-1"}}
REPORT = Report(
    instance_id="i-1",
    model="tiny",
    state=NodeState.BOOTING,
    heartbeat_at=1000.5,
    ip="10.0.0.1",
    instance_type="g5.xlarge",
    zone="eu-west-1a",
    market="spot",
    phases=(PhaseRecord(Phase.INSTANCE, 990.0),),
    log_tail=("a line",),
)
FAILURE = Failure("disk_full", "The disk is full.", "Use a larger one.", permanent=True)


class Cloud:
    """The tables, and an adapter on them."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.dynamo = boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint)
        make_tables(self.dynamo)
        self.scaling = boto3.client("autoscaling", region_name=REGION, endpoint_url=endpoint)
        self.table = Table(self.dynamo, self.scaling, names=Names("instances", "models", "group-1"))

    def put(self, **attributes: Any) -> None:
        self.dynamo.put_item(TableName="instances", Item=to_attributes({"instance_id": "i-1", **attributes}))

    @property
    def row(self) -> Mapping[str, Any]:
        return from_attributes(self.dynamo.get_item(TableName="instances", Key=KEY).get("Item", {}))


@pytest.fixture
def cloud(aws_endpoint: str) -> Cloud:
    return Cloud(aws_endpoint)


def test_the_agent_knows_the_same_moves_as_the_control_plane() -> None:
    for target, sources in _SOURCES.items():
        legal = {source for source, targets in MOVES.items() if target in targets}
        assert set(sources) - {target} == legal


def test_an_agent_that_is_faster_than_its_launcher_makes_the_row(cloud: Cloud) -> None:
    assert cloud.table.report(REPORT) == Orders(NodeState.BOOTING, 1000.5 + FIRST_LEASE_S)
    row = cloud.row
    assert (row["status"], row["launched_at"], row["group"]) == ("booting", 990, "group-1")
    assert row["phases"] == [{"phase": "instance", "started_at": 990}]


def test_what_the_launcher_wrote_is_left_alone(cloud: Cloud) -> None:
    cloud.put(status="pending", launched_at=900.0, lease_until=5000.0, group="theirs", reason="asked")
    assert cloud.table.report(REPORT) == Orders(NodeState.BOOTING, 5000.0)
    row = cloud.row
    assert (row["launched_at"], row["group"], row["reason"], row["ip"]) == (900, "theirs", "asked", "10.0.0.1")


def test_ready_is_dated_once(cloud: Cloud) -> None:
    cloud.table.report(REPORT)
    ready = replace(REPORT, state=NodeState.READY, log_tail=())
    assert cloud.table.report(replace(ready, heartbeat_at=1100.0)).state is NodeState.READY
    cloud.table.report(replace(ready, heartbeat_at=1200.0, running=2))
    row = cloud.row
    assert (row["ready_at"], row["heartbeat_at"], row["running"], row["log_tail"]) == (1100, 1200, 2, [])


@pytest.mark.parametrize("source", ["pending", "booting", "ready", "draining"])
def test_a_failure_is_written_over_every_state_that_can_fail(cloud: Cloud, source: str) -> None:
    cloud.put(status=source, lease_until=5000.0)
    orders = cloud.table.report(replace(REPORT, state=NodeState.FAILED, error=FAILURE))
    assert orders.state is NodeState.FAILED
    assert Failure.from_dict(cloud.row["error"]) == FAILURE


@pytest.mark.parametrize(
    ("stands", "reported"),
    [
        ("ready", NodeState.BOOTING),
        ("draining", NodeState.BOOTING),
        ("failed", NodeState.BOOTING),
        ("pending", NodeState.READY),
        ("draining", NodeState.READY),
        ("failed", NodeState.READY),
        ("failed", NodeState.FAILED),
    ],
)
def test_where_the_control_plane_moved_the_row_on_only_the_rest_is_written(
    cloud: Cloud, stands: str, reported: NodeState
) -> None:
    cloud.put(status=stands, lease_until=5000.0, heartbeat_at=1.0, error={"code": "theirs", "message": "m"})
    orders = cloud.table.report(replace(REPORT, state=reported, error=FAILURE, running=4))
    assert orders == Orders(NodeState(stands), 5000.0)
    row = cloud.row
    assert (row["status"], row["heartbeat_at"], row["running"]) == (stands, 1000.5, 4)
    assert row["error"]["code"] == "theirs"
    assert "ready_at" not in row


def test_a_terminated_row_is_not_touched(cloud: Cloud) -> None:
    cloud.put(status="terminated", lease_until=5000.0, heartbeat_at=1.0)
    assert cloud.table.report(REPORT) == Orders(NodeState.TERMINATED, 5000.0)
    assert cloud.row["heartbeat_at"] == 1


def test_a_row_that_is_gone_means_terminated_and_is_not_made_again(cloud: Cloud) -> None:
    assert cloud.table.report(replace(REPORT, state=NodeState.READY)).state is NodeState.TERMINATED
    assert cloud.row == {}


def test_the_models_row_is_read_with_its_override(cloud: Cloud) -> None:
    row = {"name": "tiny", "config": {"name": "tiny"}, "override": {"vllmArgs": "-x"}, "failures": 2}
    cloud.dynamo.put_item(TableName="models", Item=to_attributes(row))
    assert cloud.table.model(ModelName("tiny")) == ModelRow({"name": "tiny"}, {"vllmArgs": "-x"})


def test_a_model_without_a_row_is_none(cloud: Cloud) -> None:
    assert cloud.table.model(ModelName("nobody")) is None


def test_a_table_that_is_not_there_is_an_error_of_ours(cloud: Cloud) -> None:
    table = Table(cloud.dynamo, cloud.scaling, names=Names("no-such-table", "no-such-table", "g"))
    with pytest.raises(TableUnavailable, match="UpdateItem: ResourceNotFoundException"):
        table.report(REPORT)
    with pytest.raises(TableUnavailable, match="GetItem: ResourceNotFoundException"):
        table.model(ModelName("tiny"))


def test_an_aws_that_cannot_be_reached_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    once = Config(connect_timeout=1, retries={"total_max_attempts": 1})
    closed = "http://127.77.77.77:9"  # an address where nobody listens
    table = Table(
        boto3.client("dynamodb", region_name=REGION, endpoint_url=closed, config=once),
        boto3.client("autoscaling", region_name=REGION, endpoint_url=closed, config=once),
        names=Names("instances", "models", "g"),
    )
    for call in (
        lambda: table.report(REPORT),
        lambda: table.model(ModelName("tiny")),
        lambda: table.terminate_self("i-1"),
    ):
        with pytest.raises(TableUnavailable, match="EndpointConnectionError"):
            call()


def test_leaving_the_group_lowers_its_wish(cloud: Cloud) -> None:
    cloud.table.terminate_self(one_instance_group(cloud.endpoint, cloud.scaling))
    (group,) = cloud.scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["DesiredCapacity"], group["Instances"]) == (0, [])


GONE = ("ValidationError", "Instance Id not found - No managed instance found for instance ID: i-1")
AT_MINIMUM = ("ValidationError", "Currently, desiredSize equals minSize (0). Terminating would exceed it.")
NOTHING_WAITS = ("ValidationError", "No active Lifecycle Action found with instance ID i-1")

Answer = tuple[str, str] | None  # code and message of a refusal; None for consent


def leave(cloud: Cloud, *, group: Answer, hook: Answer) -> None:
    """Leaves, where Auto Scaling answers so to the two calls in turn."""
    asked: dict[str, dict[str, Any]] = {
        "terminate_instance_in_auto_scaling_group": {"InstanceId": "i-1", "ShouldDecrementDesiredCapacity": True},
        "complete_lifecycle_action": {
            "LifecycleHookName": DRAIN_HOOK,
            "AutoScalingGroupName": "group-1",
            "InstanceId": "i-1",
            "LifecycleActionResult": "CONTINUE",
        },
    }
    with Stubber(cloud.scaling) as stubber:
        for (call, expected), answer in zip(asked.items(), (group, hook), strict=True):
            if answer is None:
                stubber.add_response(call, {}, expected)
            else:
                stubber.add_client_error(call, *answer, expected_params=expected)
        cloud.table.terminate_self("i-1")
        stubber.assert_no_pending_responses()


@pytest.mark.parametrize("hook", [None, NOTHING_WAITS])
@pytest.mark.parametrize("group", [None, GONE])
def test_who_leaves_does_not_let_the_drain_hook_wait_where_it_does(cloud: Cloud, group: Answer, hook: Answer) -> None:
    leave(cloud, group=group, hook=hook)


def test_a_node_whose_group_takes_it_down_needs_the_end_of_the_wait_alone(cloud: Cloud) -> None:
    leave(cloud, group=AT_MINIMUM, hook=None)


@pytest.mark.parametrize("refusal", [AT_MINIMUM, ("ScalingActivityInProgress", "Activity is in progress.")])
def test_a_refusal_to_leave_is_an_error_of_ours_where_nothing_waits(cloud: Cloud, refusal: Answer) -> None:
    assert refusal
    with pytest.raises(TableUnavailable, match=f"TerminateInstanceInAutoScalingGroup: {refusal[0]}"):
        leave(cloud, group=refusal, hook=NOTHING_WAITS)


def test_a_wait_that_cannot_be_ended_is_an_error_of_ours(cloud: Cloud) -> None:
    with pytest.raises(TableUnavailable, match="CompleteLifecycleAction: AccessDenied"):
        leave(cloud, group=None, hook=("AccessDenied", "User is not authorized to perform this."))


def test_a_node_that_drains_by_itself_says_since_when_and_why(cloud: Cloud) -> None:
    cloud.put(status="ready", lease_until=5000, ready_at=900)
    draining = replace(REPORT, state=NodeState.DRAINING, reason="its group takes it down")
    assert cloud.table.report(draining).state is NodeState.DRAINING
    cloud.table.report(replace(draining, heartbeat_at=1010.5, reason="something else"))
    row = cloud.row
    assert (row["status"], row["draining_since"], row["reason"]) == ("draining", 1000.5, "its group takes it down")


def test_a_node_that_the_control_plane_drains_keeps_that_reason(cloud: Cloud) -> None:
    cloud.put(status="draining", lease_until=5000, draining_since=950, reason="idle")
    cloud.table.report(replace(REPORT, state=NodeState.DRAINING, reason="its lifetime is nearly over"))
    assert (cloud.row["draining_since"], cloud.row["reason"]) == (950, "idle")
