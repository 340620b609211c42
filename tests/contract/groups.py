"""Auto Scaling groups to launch into: the ones in memory, and the ones of the account on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import boto3

from control_plane.aws import AwsCloud
from control_plane.errors import LaunchMisconfigured, LaunchRefused, NoCapacity, QuotaExceeded
from control_plane.ports import Cloud, Group
from control_plane.schema import MARKET_TAG, MODEL_TAG, TAG
from gpu_node.protocol import DRAIN_HOOK, DRAIN_HOOK_S
from rehearsal.faults import Fault, Faults
from tests.memory_cloud import MemoryCloud

if TYPE_CHECKING:
    from types_aiobotocore_autoscaling import AutoScalingClient

ZONES = ("us-east-1a", "us-east-1b")
MODEL = "small"

_MEMORY_REFUSALS = {
    "capacity": NoCapacity("InsufficientInstanceCapacity", "none left"),
    "quota": QuotaExceeded("VcpuLimitExceeded", "limit of 0"),
    "misconfigured": LaunchMisconfigured("InvalidAMIID.NotFound", "no such image"),
}


class GroupsUnderTest(Protocol):
    @property
    def cloud(self) -> Cloud: ...

    def add(self, *, max_size: int = 2, market: str = "on-demand", holds: bool = False) -> str:
        """The name of a new group of ours in both zones; one that holds has the hook ``drain``."""

    def close(self, name: str) -> None:
        """A deletion begins: the group shall have no instances, and get no new ones."""

    def add_foreign(self) -> None:
        """A group that is not ours."""

    def refuse(self, group: str, zone: str, word: str) -> None:
        """The next launch there is refused for this reason: capacity, quota or misconfigured."""


class MemoryGroups:
    def __init__(self) -> None:
        self.cloud = MemoryCloud()

    def add(self, *, max_size: int = 2, market: str = "on-demand", holds: bool = False) -> str:
        name = f"{MODEL}-{market}"
        self.cloud.add_group(Group(name, MODEL, market, ZONES, max_size=max_size, desired=0), holds=holds)
        return name

    def close(self, name: str) -> None:
        self.cloud.close(name)

    def add_foreign(self) -> None:
        """The fake knows no others."""

    def refuse(self, group: str, zone: str, word: str) -> None:
        refusal: LaunchRefused = _MEMORY_REFUSALS[word]
        self.cloud.refusals[group, zone] = refusal


class AwsGroups:
    def __init__(self, cloud: AwsCloud, client: AutoScalingClient, *, namespace: str, faults: Faults) -> None:
        self.cloud = cloud
        self.client = client
        self._namespace = namespace
        self._faults = faults

    def add(self, *, max_size: int = 2, market: str = "on-demand", holds: bool = False) -> str:
        name = f"{self._namespace}-{MODEL}-{market}"
        tags = {TAG: self._namespace, MODEL_TAG: MODEL, MARKET_TAG: market}
        self._create(name, tags, max_size)
        if holds:
            boto3.client("autoscaling").put_lifecycle_hook(
                AutoScalingGroupName=name,
                LifecycleHookName=DRAIN_HOOK,
                LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
                HeartbeatTimeout=DRAIN_HOOK_S,
                DefaultResult="CONTINUE",
            )
        return name

    def close(self, name: str) -> None:
        boto3.client("autoscaling").update_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=0, MaxSize=0, DesiredCapacity=0
        )

    def add_foreign(self) -> None:
        self._create(f"{self._namespace}-foreign", {TAG: "another", MODEL_TAG: MODEL}, 1)

    def refuse(self, group: str, zone: str, word: str) -> None:
        self._faults.add(Fault("refuse", word, zone=zone))

    def use_up_refusals(self) -> None:
        """One account serves all tests: what was not refused here must not be refused there."""
        for fault in self._faults.pending("refuse"):
            self._faults.use(fault)

    def _create(self, name: str, tags: dict[str, str], max_size: int) -> None:
        ec2: Any = boto3.client("ec2")
        ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "g6.xlarge"},
        )
        boto3.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=max_size,
            VPCZoneIdentifier=",".join(_subnets(ec2)),
            LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
        )


def _subnets(ec2: Any) -> list[str]:
    told = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": list(ZONES)}])
    return [subnet["SubnetId"] for subnet in told["Subnets"]]
