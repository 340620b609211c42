"""The nodes of one model."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
import pulumi_aws as aws

from gpu_node import policies, user_data
from gpu_node.engine_settings import EngineSettings
from gpu_node.infra import group as parts
from gpu_node.infra.files import NodeFiles
from gpu_node.infra.group import NodeGroup, RootVolume
from gpu_node.protocol import DRAIN_HOOK_S
from gpu_node.settings import NodeSettings
from gpu_node.weights import Source

_ROLE_CHARS = 64  # IAM's limit of a name
_TEMPLATE_CHARS = 128  # EC2's


@dataclass(frozen=True)
class Surroundings:
    """What every node of the deployment finds."""

    region: str
    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    instances_table_arn: pulumi.Input[str]
    instances_table_name: pulumi.Input[str]
    models_table_arn: pulumi.Input[str]
    models_table_name: pulumi.Input[str]
    hf_token_parameter_arn: pulumi.Input[str] | None
    hf_token_parameter_name: pulumi.Input[str] | None
    image_id: pulumi.Input[str]
    root_volume: RootVolume
    max_size: int  # of a group
    files: NodeFiles
    engine: EngineSettings  # of all; bucket and weights are added
    after: Sequence[pulumi.Resource] = ()  # of the network: gone only after the nodes


class ModelNodes(pulumi.ComponentResource):
    """One model's role and its groups, one a market."""

    role_arn: pulumi.Output[str]
    group_arns: Mapping[str, pulumi.Output[str]]  # by name

    def __init__(
        self,
        name: str,
        *,
        groups: Sequence[NodeGroup],
        surroundings: Surroundings,
        tags: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``groups`` are those of the model ``name``; ``tags`` are for what none of them owns."""
        super().__init__("diogenes:gpu_node:ModelNodes", name, None, opts)
        self._model, self._surroundings = name, surroundings
        stem = groups[0].name.removesuffix(f"-{groups[0].market}")
        role_name = parts.bounded(stem, _ROLE_CHARS, suffix="-node")
        role = aws.iam.Role(
            role_name,
            name=role_name,
            assume_role_policy=json.dumps(policies.trust_policy()),
            tags=dict(tags),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._policy = aws.iam.RolePolicy(
            role_name,
            name="node",
            role=role.name,
            policy=self._allowed(groups),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._profile = aws.iam.InstanceProfile(
            role_name, name=role_name, role=role.name, tags=dict(tags), opts=pulumi.ResourceOptions(parent=self)
        )
        self.role_arn = role.arn
        self.group_arns = {group.name: self._group(group).arn for group in groups}
        self.register_outputs({"roleArn": self.role_arn})

    def _allowed(self, groups: Sequence[NodeGroup]) -> pulumi.Output[str]:
        around, names = self._surroundings, [group.name for group in groups]

        def document(told: Mapping[str, Any]) -> str:
            access = policies.NodeAccess(
                model=self._model, groups=names, repository=groups[0].repository or self._model, **told
            )
            return json.dumps(policies.node_policy(access))

        return pulumi.Output.all(
            instances_table_arn=around.instances_table_arn,
            models_table_arn=around.models_table_arn,
            bucket_arn=around.files.bucket_arn,
            hf_token_parameter_arn=around.hf_token_parameter_arn,
        ).apply(document)

    def _group(self, group: NodeGroup) -> aws.autoscaling.Group:
        return aws.autoscaling.Group(
            group.name,
            name=group.name,
            min_size=0,
            max_size=self._surroundings.max_size,
            vpc_zone_identifiers=list(self._surroundings.subnet_ids),
            mixed_instances_policy=parts.ladder(group, self._template(group)),
            # No AZRebalance: it would end a node to even out zones. No ReplaceUnhealthy: a node that left by itself is
            # not wanted any more. No rebalance: it would buy a second node.
            suspended_processes=["AZRebalance", "ReplaceUnhealthy"],
            capacity_rebalance=False,
            wait_for_capacity_timeout="0",  # there is nothing to wait for
            ignore_failed_scaling_activities=True,  # of the past, such as a lack of capacity
            force_delete=False,
            initial_lifecycle_hooks=[parts.drain_hook()],
            tags=parts.tags_for_instances(group),
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=["desired_capacity"],  # the control plane's to say
                # A node that drains while the group is deleted needs all this still.
                depends_on=[self._policy, *self._surroundings.after],
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{2 * DRAIN_HOOK_S // 60}m"),
            ),
        )

    def _template(self, group: NodeGroup) -> aws.ec2.LaunchTemplate:
        around, name = self._surroundings, parts.bounded(group.name, _TEMPLATE_CHARS)
        return aws.ec2.LaunchTemplate(
            name,
            name=name,
            image_id=around.image_id,
            user_data=self._user_data(group),
            update_default_version=True,
            iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(arn=self._profile.arn),
            instance_initiated_shutdown_behavior="terminate",
            metadata_options=parts.guarded_metadata(),
            # Every five minutes, which is free: the node's own row tells more, every ten seconds.
            monitoring=aws.ec2.LaunchTemplateMonitoringArgs(enabled=False),
            network_interfaces=[parts.public_address(around.security_group_id)],
            block_device_mappings=[around.root_volume.mapping()],
            tag_specifications=parts.tags_at_launch(group),
            tags=dict(group.tags),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[around.files.uploaded]),
        )

    def _user_data(self, group: NodeGroup) -> pulumi.Output[str]:
        around = self._surroundings

        def text(told: Mapping[str, Any]) -> str:
            settings = NodeSettings(
                model=group.model,
                instances_table=told["instances"],
                models_table=told["models"],
                group=group.name,
                engine=f"{user_data.PROGRAM}/engine.sh",
                max_lifetime_s=float(group.max_lifetime_s),
            )
            boot = user_data.Boot(
                settings=settings,
                region=around.region,
                bucket=told["bucket"],
                package=around.files.package,
                hf_token_parameter=told["token"],
                engine=replace(around.engine, weights=Source(group.weights), bucket=told["bucket"]),
            )
            return base64.b64encode(user_data.render(boot).encode()).decode()

        return pulumi.Output.all(
            instances=around.instances_table_name,
            models=around.models_table_name,
            bucket=around.files.bucket_name,
            token=around.hf_token_parameter_name,
        ).apply(text)
