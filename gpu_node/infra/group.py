"""One Auto Scaling group and its launch template: their arguments, from plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_node.protocol import DRAIN_HOOK, DRAIN_HOOK_S
from gpu_node.settings import NodeSettings

VOLUME_INITIALIZATION_MIB_S = 200
"""How fast AWS fills the root volume from the image; without it, reads come at a pace that nobody can tell. Between
its least and its most, 100 and 300: it is paid for by the gigabyte of the image, more for a higher rate."""


@dataclass(frozen=True)
class RootVolume:
    """Of every node."""

    size_gb: int
    mib_s: int  # what it carries

    def mapping(self) -> aws.ec2.LaunchTemplateBlockDeviceMappingArgs:
        """What the image names as its root; gone with its instance."""
        return aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
            device_name="/dev/sda1",
            ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                volume_size=self.size_gb,
                volume_type="gp3",
                throughput=self.mib_s,
                volume_initialization_rate=VOLUME_INITIALIZATION_MIB_S,
                encrypted="true",
                delete_on_termination="true",
            ),
        )


@dataclass(frozen=True)
class NodeGroup:
    """One model on one market."""

    name: str  # of the Auto Scaling group
    model: str
    market: str  # "on-demand" or "spot"
    instance_types: Sequence[str]  # best first
    tags: Mapping[str, str]  # of the group and of its instances; permissions and the control plane go by them
    repository: str = ""  # of the model, on the hub; its name where it is empty
    weights: str = "hub"  # where they come from: "hub" or "s3"
    max_lifetime_s: float = NodeSettings.max_lifetime_s  # of an instance, from its launch

    @property
    def all_tags(self) -> dict[str, str]:
        """The tags, and the name that AWS's console shows."""
        return {**self.tags, "Name": self.name}


def bounded(name: str, limit: int, *, suffix: str = "") -> str:
    """``name`` and ``suffix`` in at most ``limit`` characters; what has to be cut is told apart by a digest."""
    if len(name) + len(suffix) <= limit:
        return name + suffix
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - len(suffix) - 9]}-{digest}{suffix}"


def ladder(group: NodeGroup, template: aws.ec2.LaunchTemplate) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
    """The group's instance types in their order, all on one market: AWS launches nothing at once from a mix."""
    specification = aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
        launch_template_id=template.id, version="$Latest"
    )
    return aws.autoscaling.GroupMixedInstancesPolicyArgs(
        launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=specification,
            overrides=[
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(instance_type=kind)
                for kind in group.instance_types
            ],
        ),
        instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_base_capacity=0,
            on_demand_percentage_above_base_capacity=0 if group.market == "spot" else 100,
            on_demand_allocation_strategy="prioritized",
            spot_allocation_strategy="capacity-optimized-prioritized",
        ),
    )


def drain_hook() -> aws.autoscaling.GroupInitialLifecycleHookArgs:
    """What holds an instance back that AWS takes down.

    Made with the group and not beside it: a hook of its own would be deleted first, and a group that is removed would
    end its instances at once.
    """
    return aws.autoscaling.GroupInitialLifecycleHookArgs(
        name=DRAIN_HOOK,
        lifecycle_transition="autoscaling:EC2_INSTANCE_TERMINATING",
        heartbeat_timeout=DRAIN_HOOK_S,
        default_result="CONTINUE",
    )


def tags_for_instances(group: NodeGroup) -> Sequence[aws.autoscaling.GroupTagArgs]:
    """The group's tags, which its instances get too."""
    return [
        aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=True)
        for key, value in group.all_tags.items()
    ]


def tags_at_launch(group: NodeGroup) -> Sequence[aws.ec2.LaunchTemplateTagSpecificationArgs]:
    """The same for the volume, which a group does not tag."""
    return [
        aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=group.all_tags)
        for kind in ("instance", "volume")
    ]


def public_address(security_group_id: pulumi.Input[str]) -> aws.ec2.LaunchTemplateNetworkInterfaceArgs:
    """An address of its own instead of a NAT gateway; the security group says who may come in."""
    return aws.ec2.LaunchTemplateNetworkInterfaceArgs(
        device_index=0,
        associate_public_ip_address="true",
        delete_on_termination="true",
        security_groups=[security_group_id],
    )


def guarded_metadata() -> aws.ec2.LaunchTemplateMetadataOptionsArgs:
    """Version 2 alone, for the machine itself and for nothing behind it."""
    return aws.ec2.LaunchTemplateMetadataOptionsArgs(
        http_endpoint="enabled",
        http_tokens="required",
        http_put_response_hop_limit=1,
        instance_metadata_tags="disabled",
    )
