"""A group with a hook on termination holds what it takes out, and a group that is deleted goes when it is empty."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_plane.schema import GROUP_MAX_SIZE
from gpu_node.protocol import DRAIN_HOOK, DRAIN_HOOK_S
from tests.rehearsal.conftest import SMALL, SPOTTY, Cloud

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


def launched(cloud: Cloud, *, count: int = 1) -> list[str]:
    answer = cloud.launch(RequestedCapacity=count)
    ids: list[str] = answer["Instances"][0]["InstanceIds"]
    return ids


def states(cloud: Cloud, group: str = SMALL) -> dict[str, str]:
    return {told["InstanceId"]: told["LifecycleState"] for told in cloud.group(group)["Instances"]}


def power(cloud: Cloud, instance_id: str) -> str:
    told = cloud.client("ec2").describe_instances(InstanceIds=[instance_id])
    name: str = told["Reservations"][0]["Instances"][0]["State"]["Name"]
    return name


def resize(cloud: Cloud, **sizes: int) -> None:
    cloud.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=SMALL, **sizes)


def delete(cloud: Cloud, *, force: bool = False) -> None:
    cloud.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=SMALL, ForceDelete=force)


def activity(cloud: Cloud) -> tuple[str, str]:
    """The last one."""
    told = cloud.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=SMALL)["Activities"][0]
    return told["Description"], told["StatusCode"]


def test_the_programs_groups_have_the_hook_from_their_first_moment(cloud: Cloud) -> None:
    for group in (SMALL, SPOTTY):
        (hook,) = cloud.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=group)["LifecycleHooks"]
        told = (hook["LifecycleHookName"], hook["LifecycleTransition"], hook["HeartbeatTimeout"], hook["DefaultResult"])
        assert told == (DRAIN_HOOK, TERMINATING, DRAIN_HOOK_S, "CONTINUE")


# -- who waits


def test_a_terminated_instance_waits_up_and_running_until_its_hook_is_completed(cloud: Cloud) -> None:
    (instance_id,) = launched(cloud)
    cloud.account.booted(instance_id)
    cloud.terminate(instance_id)
    assert (states(cloud), cloud.group()["DesiredCapacity"]) == ({instance_id: "Terminating:Wait"}, 0)
    assert (power(cloud, instance_id), cloud.member(instance_id).leaving) == ("running", True)
    assert activity(cloud) == (f"Terminating EC2 instance: {instance_id}", "MidTerminatingLifecycleAction")
    cloud.complete(instance_id)
    assert (states(cloud), power(cloud, instance_id)) == ({}, "terminated")
    assert activity(cloud) == (f"Terminating EC2 instance: {instance_id}", "Successful")


def test_an_instance_waits_no_longer_than_its_hook_does(cloud: Cloud) -> None:
    (instance_id,) = launched(cloud)
    cloud.terminate(instance_id)
    cloud.clock.step(DRAIN_HOOK_S - 1)
    assert states(cloud) == {instance_id: "Terminating:Wait"}
    cloud.clock.step(1)
    assert cloud.account.members() == []
    assert (states(cloud), power(cloud, instance_id)) == ({}, "terminated")


def test_an_instance_waits_for_every_hook_on_termination_and_for_no_other(cloud: Cloud) -> None:
    autoscaling = cloud.client("autoscaling")
    for name, transition in (("second", TERMINATING), ("first-steps", "autoscaling:EC2_INSTANCE_LAUNCHING")):
        autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=SMALL, LifecycleHookName=name, LifecycleTransition=transition
        )
    (instance_id,) = launched(cloud)
    cloud.terminate(instance_id)
    cloud.complete(instance_id)
    assert states(cloud) == {instance_id: "Terminating:Wait"}
    cloud.complete(instance_id, hook="second")
    assert states(cloud) == {}


def test_who_waits_for_a_hook_that_is_deleted_waits_no_more(cloud: Cloud) -> None:
    waiting, other = launched(cloud, count=2)
    cloud.terminate(waiting)
    cloud.drop_hook()
    assert states(cloud) == {other: "Pending"}


def test_an_instance_that_never_booted_waits_as_well_and_may_boot_meanwhile(cloud: Cloud) -> None:
    (instance_id,) = launched(cloud)
    cloud.terminate(instance_id)
    cloud.account.booted(instance_id)
    assert (states(cloud), power(cloud, instance_id)) == ({instance_id: "Terminating:Wait"}, "running")


def test_a_dead_instance_keeps_its_group_waiting_too(cloud: Cloud) -> None:
    first, second = launched(cloud, count=2)
    ec2 = cloud.client("ec2")
    ec2.terminate_instances(InstanceIds=[first])
    cloud.terminate(first)  # dead, then taken out
    cloud.terminate(second)  # taken out, then dead
    ec2.terminate_instances(InstanceIds=[second])
    assert states(cloud) == dict.fromkeys((first, second), "Terminating:Wait")
    assert not any(member.alive for member in cloud.account.members())
    for instance_id in (first, second):
        cloud.complete(instance_id)
    assert states(cloud) == {}


@pytest.mark.parametrize("why", ["desired capacity", "sizes"])
def test_an_instance_that_is_too_many_waits(cloud: Cloud, why: str) -> None:
    (instance_id,) = launched(cloud)
    if why == "sizes":
        resize(cloud, MinSize=0, MaxSize=0, DesiredCapacity=0)
    else:
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=SMALL, DesiredCapacity=0)
    assert states(cloud) == {instance_id: "Terminating:Wait"}


def test_what_waits_counts_no_more(cloud: Cloud) -> None:
    old, other = launched(cloud, count=2)
    cloud.terminate(old)
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=SMALL, DesiredCapacity=2)
    (new,) = states(cloud).keys() - {old, other}
    cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=SMALL, DesiredCapacity=1)
    found = states(cloud)
    assert sorted(found.values()) == ["Pending", "Terminating:Wait", "Terminating:Wait"]
    assert new in found


def test_terminating_what_waits_changes_nothing(cloud: Cloud) -> None:
    first, second = launched(cloud, count=2)
    told = [cloud.terminate(first)["Activity"]["ActivityId"] for _ in range(2)]
    assert told[0] == told[1]
    assert (states(cloud), cloud.group()["DesiredCapacity"]) == ({first: "Terminating:Wait", second: "Pending"}, 1)


def test_terminating_the_last_one_twice_is_refused_for_the_groups_minimum(cloud: Cloud) -> None:
    (instance_id,) = launched(cloud)
    cloud.terminate(instance_id)
    with pytest.raises(ClientError, match=r"desiredSize equals minSize \(0\)"):
        cloud.terminate(instance_id)


# -- completing


def refused(cloud: Cloud, instance_id: str, **changes: Any) -> str:
    with pytest.raises(ClientError) as refusal:
        cloud.complete(instance_id, **changes)
    error = refusal.value.response["Error"]
    assert error["Code"] == "ValidationError"
    return str(error["Message"])


def test_completing_what_does_not_wait_is_a_validation_error(cloud: Cloud) -> None:
    waiting, stays = launched(cloud, count=2)
    cloud.terminate(waiting)
    for instance_id, changes in (
        (stays, {}),
        ("i-0", {}),
        (waiting, {"hook": "another"}),
        (waiting, {"group": SPOTTY}),
    ):
        text = f"No active Lifecycle Action found with instance ID {instance_id}"
        assert refused(cloud, instance_id, **changes) == text
    assert "not found" in refused(cloud, waiting, group="nowhere")
    cloud.complete(waiting)
    assert refused(cloud, waiting) == f"No active Lifecycle Action found with instance ID {waiting}"
    assert list(states(cloud)) == [stays]


# -- sizes


def test_other_sizes_leave_everything_else_of_a_group_alone(cloud: Cloud) -> None:
    before = cloud.group()
    resize(cloud, MaxSize=3)
    after = cloud.group()
    assert after["MaxSize"] == 3
    assert {**after, "MaxSize": GROUP_MAX_SIZE} == before
    assert after["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]


def test_desired_capacity_follows_the_bounds(cloud: Cloud) -> None:
    launched(cloud, count=2)
    resize(cloud, MaxSize=1)
    assert cloud.group()["DesiredCapacity"] == 1
    assert sorted(states(cloud).values()) == ["Pending", "Terminating:Wait"]
    resize(cloud, MinSize=2, MaxSize=2)
    assert cloud.group()["DesiredCapacity"] == 2
    assert sorted(states(cloud).values()) == ["Pending", "Pending", "Terminating:Wait"]


@pytest.mark.parametrize(
    "sizes", [{"MinSize": 3, "MaxSize": 2}, {"MinSize": 1, "DesiredCapacity": 0}, {"MaxSize": 1, "DesiredCapacity": 2}]
)
def test_sizes_that_contradict_each_other_are_refused(cloud: Cloud, sizes: dict[str, int]) -> None:
    before = cloud.group()
    with pytest.raises(ClientError, match="ValidationError"):
        resize(cloud, **sizes)
    assert cloud.group() == before


def test_a_protected_instance_is_taken_out_only_when_its_protection_ends(cloud: Cloud) -> None:
    (instance_id,) = launched(cloud)
    protect = cloud.client("autoscaling").set_instance_protection
    protect(AutoScalingGroupName=SMALL, InstanceIds=[instance_id], ProtectedFromScaleIn=True)
    resize(cloud, MinSize=0, MaxSize=0, DesiredCapacity=0)
    assert states(cloud) == {instance_id: "Pending"}
    protect(AutoScalingGroupName=SMALL, InstanceIds=[instance_id], ProtectedFromScaleIn=False)
    assert states(cloud) == {instance_id: "Terminating:Wait"}


# -- deletion


def test_a_group_is_not_deleted_while_anything_of_it_waits(cloud: Cloud) -> None:
    (instance_id,) = launched(cloud)
    resize(cloud, MinSize=0, MaxSize=0, DesiredCapacity=0)
    with pytest.raises(ClientError, match="ResourceInUse"):
        delete(cloud)
    assert states(cloud) == {instance_id: "Terminating:Wait"}
    cloud.complete(instance_id)
    delete(cloud)
    assert (
        cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[SMALL])["AutoScalingGroups"]
        == []
    )


def test_a_forced_deletion_waits_for_nobody(cloud: Cloud) -> None:
    waiting, other = launched(cloud, count=2)
    cloud.terminate(waiting)
    delete(cloud, force=True)
    assert (cloud.account.members(), power(cloud, waiting), power(cloud, other)) == ([], "terminated", "terminated")
    cloud.clock.step(DRAIN_HOOK_S)
    assert cloud.account.members() == []
    left = cloud.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=SMALL)["LifecycleHooks"]
    assert left == []
