"""Instances come and go as Auto Scaling documents it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_plane.schema import GROUP_MAX_SIZE
from tests.rehearsal.conftest import SMALL, SPOTTY, SPOTTY_ON_DEMAND, Cloud


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def error_of(answer: dict[str, Any]) -> tuple[str, str]:
    assert answer["Instances"] == []
    (error,) = answer["Errors"]
    return error["ErrorCode"], error["AvailabilityZone"]


def test_a_launch_answers_with_the_instance_and_raises_desired_capacity(cloud: Cloud) -> None:
    answer = cloud.launch(AvailabilityZones=["us-east-1b"])
    (made,) = answer["Instances"]
    assert (made["InstanceType"], made["MarketType"]) == ("g5.xlarge", "OnDemand")
    assert made["AvailabilityZone"] == "us-east-1b"
    assert answer["Errors"] == []
    group = cloud.group()
    assert group["DesiredCapacity"] == 1
    (instance,) = group["Instances"]
    assert [instance["InstanceId"]] == made["InstanceIds"]
    assert (instance["LifecycleState"], instance["HealthStatus"]) == ("Pending", "Healthy")
    assert instance["AvailabilityZone"] == "us-east-1b"


def test_the_same_token_is_the_same_instance(cloud: Cloud) -> None:
    first = cloud.launch()
    second = cloud.launch()
    assert first["Instances"] == second["Instances"]
    assert cloud.group()["DesiredCapacity"] == 1


def test_another_request_with_a_known_token_is_refused(cloud: Cloud) -> None:
    cloud.launch()
    with pytest.raises(ClientError) as refusal:
        cloud.launch(AvailabilityZones=["us-east-1b"])
    assert code_of(refusal) == "IdempotentParameterMismatch"


def test_a_refusal_is_remembered_under_its_token(cloud: Cloud) -> None:
    cloud.add_fault(refuse="capacity")
    assert error_of(cloud.launch()) == error_of(cloud.launch())
    assert cloud.launch(ClientToken="token-2")["Instances"]


def test_a_launch_beyond_the_maximum_is_refused(cloud: Cloud) -> None:
    cloud.launch(RequestedCapacity=GROUP_MAX_SIZE)
    with pytest.raises(ClientError, match=f"above max value {GROUP_MAX_SIZE}") as refusal:
        cloud.launch(ClientToken="token-2")
    assert code_of(refusal) == "ValidationError"
    assert len(cloud.group()["Instances"]) == GROUP_MAX_SIZE


@pytest.mark.parametrize("zones", [None, ["us-east-1f"]])
def test_a_group_in_several_zones_wants_one_of_them(cloud: Cloud, zones: list[str] | None) -> None:
    with pytest.raises(ClientError) as refusal:
        cloud.launch(AvailabilityZones=zones)
    assert code_of(refusal) == "ValidationError"


@pytest.mark.parametrize(
    ("word", "group", "code"),
    [
        ("capacity", SMALL, "InsufficientInstanceCapacity"),
        ("quota", SMALL, "VcpuLimitExceeded"),
        ("quota", SPOTTY, "MaxSpotInstanceCountExceeded"),
        ("spot-capacity", SPOTTY, "UnfulfillableCapacity"),
        ("misconfigured", SMALL, "InvalidAMIID.NotFound"),
    ],
)
def test_a_refused_launch_says_why_and_leaves_nothing(cloud: Cloud, word: str, group: str, code: str) -> None:
    cloud.add_fault(refuse=word, zone="us-east-1a", times=1)
    answer = cloud.launch(AutoScalingGroupName=group)
    assert error_of(answer) == (code, "us-east-1a")
    assert cloud.group(group)["Instances"] == []
    assert cloud.group(group)["DesiredCapacity"] == 0
    activities = cloud.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group)["Activities"]
    assert activities[0]["StatusCode"] == "Failed"
    assert code in activities[0]["StatusMessage"]


def test_a_refusal_for_one_zone_leaves_the_other_open(cloud: Cloud) -> None:
    cloud.add_fault(refuse="capacity", zone="us-east-1a", times="always")
    assert error_of(cloud.launch()) == ("InsufficientInstanceCapacity", "us-east-1a")
    assert cloud.launch(ClientToken="token-2", AvailabilityZones=["us-east-1b"])["Instances"]


def test_scarce_spot_leaves_on_demand_open(cloud: Cloud) -> None:
    cloud.add_fault(refuse="spot-capacity", times="always")
    assert cloud.launch(AutoScalingGroupName=SPOTTY)["Instances"] == []
    assert cloud.launch(AutoScalingGroupName=SPOTTY_ON_DEMAND, ClientToken="token-2")["Instances"]


def test_a_spot_instance_is_marked(cloud: Cloud) -> None:
    (made,) = cloud.launch(AutoScalingGroupName=SPOTTY)["Instances"]
    assert (made["MarketType"], made["InstanceType"]) == ("Spot", "g5.12xlarge")
    reservations = cloud.client("ec2").describe_instances(InstanceIds=made["InstanceIds"])["Reservations"]
    assert reservations[0]["Instances"][0]["InstanceLifecycle"] == "spot"


def test_desired_capacity_starts_an_instance_and_takes_it_away(cloud: Cloud) -> None:
    cloud.drop_hook()
    autoscaling = cloud.client("autoscaling")
    autoscaling.set_desired_capacity(AutoScalingGroupName=SMALL, DesiredCapacity=2)
    assert sorted(i["AvailabilityZone"] for i in cloud.group()["Instances"]) == ["us-east-1a", "us-east-1b"]
    autoscaling.set_desired_capacity(AutoScalingGroupName=SMALL, DesiredCapacity=0)
    assert cloud.group()["Instances"] == []


def test_desired_capacity_keeps_to_the_maximum(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match=f"above max value {GROUP_MAX_SIZE}"):
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=SMALL, DesiredCapacity=GROUP_MAX_SIZE + 1)
    assert cloud.group()["DesiredCapacity"] == 0


def test_a_terminated_instance_leaves_its_group_and_desired_capacity(cloud: Cloud) -> None:
    cloud.drop_hook()
    (instance_id,) = cloud.launch()["Instances"][0]["InstanceIds"]
    answer = cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
    )
    assert instance_id in answer["Activity"]["Description"]
    assert (cloud.group()["Instances"], cloud.group()["DesiredCapacity"]) == ([], 0)


def test_terminating_twice_is_a_validation_error(cloud: Cloud) -> None:
    cloud.drop_hook()
    (instance_id,) = cloud.launch()["Instances"][0]["InstanceIds"]
    end = cloud.client("autoscaling").terminate_instance_in_auto_scaling_group
    end(InstanceId=instance_id, ShouldDecrementDesiredCapacity=True)
    with pytest.raises(ClientError, match="Instance Id not found") as refusal:
        end(InstanceId=instance_id, ShouldDecrementDesiredCapacity=True)
    assert code_of(refusal) == "ValidationError"


@pytest.mark.parametrize("decrement", [True, False])
def test_an_instance_that_never_was_cannot_be_terminated(cloud: Cloud, decrement: bool) -> None:
    unknown = "i-0123456789abcdef0"
    with pytest.raises(ClientError) as refusal:
        cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=unknown, ShouldDecrementDesiredCapacity=decrement
        )
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refusal.value.response["Error"] == {
        "Type": "Sender",
        "Code": "ValidationError",
        "Message": f"Instance Id not found - No managed instance found for instance ID: {unknown}",
    }


def test_an_instance_that_dies_stays_listed_until_it_is_taken_out(cloud: Cloud) -> None:
    cloud.drop_hook()
    (instance_id,) = cloud.launch()["Instances"][0]["InstanceIds"]
    cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])
    (listed,) = cloud.group()["Instances"]
    assert (listed["InstanceId"], listed["HealthStatus"]) == (instance_id, "Unhealthy")
    assert not cloud.member(instance_id).alive
    cloud.client("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
    )
    assert (cloud.group()["Instances"], cloud.group()["DesiredCapacity"]) == ([], 0)
