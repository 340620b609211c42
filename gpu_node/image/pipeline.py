"""The pipeline that bakes the engine into a machine image, as a Pulumi component."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from gpu_node import policies
from gpu_node.image.document import VOLUME_GB, Baking, document
from gpu_node.package import Package

BUILDER_TYPES = ("m7i.xlarge", "m6i.xlarge")
"""What bakes: installing needs no GPU."""

KEPT = 2
"""Images; with each go the snapshots that it is made of, which are what costs."""

_MANAGED = "arn:aws:iam::aws:policy"


class ImagePipeline(pulumi.ComponentResource):
    """Bakes when it is told to, and costs nothing else: ``start_command`` is the line that tells it."""

    start_command: pulumi.Output[str]
    pipeline_arn: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        region: str,
        package: Package,
        bucket_name: pulumi.Input[str],
        bucket_arn: pulumi.Input[str],
        parent_image: pulumi.Input[str],
        tags: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``package`` is the agent's, in the bucket already."""
        super().__init__("diogenes:gpu_node:ImagePipeline", name, None, opts)
        self._namespace, self._tags = namespace, dict(tags)
        self._child = pulumi.ResourceOptions(parent=self)
        told = pulumi.Output.all(bucket=bucket_name, parent=parent_image)

        def baking(given: Mapping[str, Any]) -> Baking:
            return Baking(region, given["bucket"], package, given["parent"])

        version = told.apply(lambda given: baking(given).version)
        component = aws.imagebuilder.Component(
            f"{namespace}-engine",
            name=f"{namespace}-engine",
            platform="Linux",
            version=version,
            data=told.apply(lambda given: document(baking(given))),
            tags=self._tags,
            opts=self._child,
        )
        recipe = self._recipe(component, parent_image, version)
        builder = self._builder(bucket_arn)
        pipeline = aws.imagebuilder.ImagePipeline(
            f"{namespace}-node",
            name=f"{namespace}-node",
            image_recipe_arn=recipe.arn,
            infrastructure_configuration_arn=builder.arn,
            distribution_configuration_arn=self._distribution(region).arn,
            # What is to be tried is on GPUs, and Image Builder's own tests would start one more instance.
            image_tests_configuration=aws.imagebuilder.ImagePipelineImageTestsConfigurationArgs(
                image_tests_enabled=False
            ),
            tags=self._tags,
            opts=self._child,
        )
        self._tidy()
        self.pipeline_arn = pipeline.arn
        self.start_command = pipeline.arn.apply(
            lambda arn: f"aws imagebuilder start-image-pipeline-execution --region {region} --image-pipeline-arn {arn}"
        )
        self.register_outputs({"pipelineArn": self.pipeline_arn})

    def _recipe(
        self, component: aws.imagebuilder.Component, parent_image: pulumi.Input[str], version: pulumi.Input[str]
    ) -> aws.imagebuilder.ImageRecipe:
        disk = aws.imagebuilder.ImageRecipeBlockDeviceMappingEbsArgs(
            volume_size=VOLUME_GB, volume_type="gp3", encrypted="false", delete_on_termination="true"
        )
        return aws.imagebuilder.ImageRecipe(
            f"{self._namespace}-node",
            name=f"{self._namespace}-node",
            version=version,
            parent_image=parent_image,
            components=[aws.imagebuilder.ImageRecipeComponentArgs(component_arn=component.arn)],
            block_device_mappings=[
                aws.imagebuilder.ImageRecipeBlockDeviceMappingArgs(device_name="/dev/sda1", ebs=disk)
            ],
            tags=self._tags,
            opts=self._child,
        )

    def _builder(self, bucket_arn: pulumi.Input[str]) -> aws.imagebuilder.InfrastructureConfiguration:
        """In the account's default network: Image Builder cannot ask for a public address, which our subnets give to
        nobody who does not."""
        name = f"{self._namespace}-bake"
        role = self._role(
            name, "ec2.amazonaws.com", ("EC2InstanceProfileForImageBuilder", "AmazonSSMManagedInstanceCore")
        )
        aws.iam.RolePolicy(
            name,
            name="package",
            role=role.name,
            policy=pulumi.Output.from_input(bucket_arn).apply(
                lambda arn: json.dumps(policies.read_package_policy(arn))
            ),
            opts=self._child,
        )
        profile = aws.iam.InstanceProfile(name, name=name, role=role.name, tags=self._tags, opts=self._child)
        return aws.imagebuilder.InfrastructureConfiguration(
            name,
            name=name,
            instance_profile_name=profile.name,
            instance_types=list(BUILDER_TYPES),
            terminate_instance_on_failure=True,
            instance_metadata_options=aws.imagebuilder.InfrastructureConfigurationInstanceMetadataOptionsArgs(
                http_tokens="required", http_put_response_hop_limit=1
            ),
            resource_tags=self._tags,
            tags=self._tags,
            opts=self._child,
        )

    def _distribution(self, region: str) -> aws.imagebuilder.DistributionConfiguration:
        image = aws.imagebuilder.DistributionConfigurationDistributionAmiDistributionConfigurationArgs(
            name=f"{image_name(self._namespace)}{{{{ imagebuilder:buildDate }}}}", ami_tags=self._tags
        )
        return aws.imagebuilder.DistributionConfiguration(
            f"{self._namespace}-node",
            name=f"{self._namespace}-node",
            distributions=[
                aws.imagebuilder.DistributionConfigurationDistributionArgs(
                    region=region, ami_distribution_configuration=image
                )
            ],
            tags=self._tags,
            opts=self._child,
        )

    def _tidy(self) -> None:
        """Older images go by themselves, with their snapshots."""
        name = f"{self._namespace}-tidy"
        role = self._role(name, "imagebuilder.amazonaws.com", ("service-role/EC2ImageBuilderLifecycleExecutionPolicy",))
        detail = aws.imagebuilder.LifecyclePolicyPolicyDetailArgs(
            action=aws.imagebuilder.LifecyclePolicyPolicyDetailActionArgs(
                type="DELETE",
                include_resources=aws.imagebuilder.LifecyclePolicyPolicyDetailActionIncludeResourcesArgs(
                    amis=True, snapshots=True
                ),
            ),
            filter=aws.imagebuilder.LifecyclePolicyPolicyDetailFilterArgs(type="COUNT", value=KEPT),
        )
        aws.imagebuilder.LifecyclePolicy(
            name,
            name=name,
            execution_role=role.arn,
            resource_type="AMI_IMAGE",
            policy_details=[detail],
            resource_selection=aws.imagebuilder.LifecyclePolicyResourceSelectionArgs(tag_map=self._tags),
            tags=self._tags,
            opts=self._child,
        )

    def _role(self, name: str, service: str, managed: tuple[str, ...]) -> aws.iam.Role:
        role = aws.iam.Role(
            name,
            name=name,
            assume_role_policy=json.dumps(policies.trust_policy(service)),
            tags=self._tags,
            opts=self._child,
        )
        for policy in managed:
            aws.iam.RolePolicyAttachment(
                f"{name}-{policy.rpartition('/')[2]}",
                role=role.name,
                policy_arn=f"{_MANAGED}/{policy}",
                opts=self._child,
            )
        return role


def image_name(namespace: str) -> str:
    """The beginning of the names of all images that are baked for a deployment."""
    return f"{namespace}-node "


def baked_image(namespace: str, *, otherwise: pulumi.Input[str], parent: pulumi.Resource) -> pulumi.Output[str]:
    """The newest image that was baked here; ``otherwise`` while there is none."""
    found = aws.ec2.get_ami_ids_output(
        owners=["self"],
        filters=[
            aws.ec2.GetAmiIdsFilterArgs(name="name", values=[f"{image_name(namespace)}*"]),
            aws.ec2.GetAmiIdsFilterArgs(name="state", values=["available"]),
        ],
        sort_ascending=False,  # the newest first
        opts=pulumi.InvokeOutputOptions(parent=parent),
    )

    def newest(told: Mapping[str, Any]) -> str:
        return str(told["found"][0] if told["found"] else told["otherwise"])

    return pulumi.Output.all(found=found.ids, otherwise=otherwise).apply(newest)
