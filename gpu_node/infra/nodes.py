"""All GPU nodes of a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from gpu_node.engine_settings import EngineSettings
from gpu_node.image.pipeline import ImagePipeline, baked_image
from gpu_node.infra.files import NodeFiles
from gpu_node.infra.group import NodeGroup, RootVolume
from gpu_node.infra.model import ModelNodes, Surroundings

AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""Where AWS tells its newest Deep Learning Base AMI of a region: Ubuntu with the NVIDIA driver, without frameworks."""


class GpuNodes(pulumi.ComponentResource):
    """The Auto Scaling groups of all models, at rest at zero, and all that an instance of them needs.

    A change of image, or of anything else that a node boots with, makes a new version of a launch template: the next
    instance takes it, and no instance that runs is touched. How many a group has is the control plane's to say.
    """

    bucket_name: pulumi.Output[str]
    bucket_arn: pulumi.Output[str]
    group_arns: Sequence[pulumi.Output[str]]  # in the order of the groups
    role_arns: Sequence[pulumi.Output[str]]  # one a model
    bake_command: pulumi.Output[str] | None = None  # what starts a baking, where images are baked

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        region: str,
        groups: Sequence[NodeGroup],
        max_size: int,
        subnet_ids: Sequence[pulumi.Input[str]],
        security_group_id: pulumi.Input[str],
        instances_table_arn: pulumi.Input[str],
        instances_table_name: pulumi.Input[str],
        models_table_arn: pulumi.Input[str],
        models_table_name: pulumi.Input[str],
        hf_token_parameter_arn: pulumi.Input[str] | None,
        hf_token_parameter_name: pulumi.Input[str] | None,
        ami_id: str | None,
        root_volume: RootVolume,
        tags: Mapping[str, str],
        engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
        bake_image: bool = False,
        after: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``max_size`` bounds every group; ``tags`` are for what no group owns. No ``ami_id``: AWS's newest image; with
        ``bake_image`` the newest that the pipeline made of it, once there is one.

        ``after``: what a node needs, to its last minute, of the network around it.
        """
        super().__init__("diogenes:gpu_node:GpuNodes", name, None, opts)
        files = NodeFiles(f"{namespace}-nodes", tags=tags, opts=pulumi.ResourceOptions(parent=self))
        image: pulumi.Input[str] = ami_id or _newest_image(self)
        if bake_image:
            image = self._baked(
                f"{name}-image", namespace=namespace, region=region, files=files, parent_image=image, tags=tags
            )
        surroundings = Surroundings(
            region=region,
            subnet_ids=subnet_ids,
            security_group_id=security_group_id,
            instances_table_arn=instances_table_arn,
            instances_table_name=instances_table_name,
            models_table_arn=models_table_arn,
            models_table_name=models_table_name,
            hf_token_parameter_arn=hf_token_parameter_arn,
            hf_token_parameter_name=hf_token_parameter_name,
            image_id=image,
            root_volume=root_volume,
            max_size=max_size,
            files=files,
            engine=engine,
            after=after,
        )
        models = self._models(groups, surroundings, tags)
        arns = {group: arn for model in models for group, arn in model.group_arns.items()}
        self.group_arns = [arns[group.name] for group in groups]
        self.role_arns = [model.role_arn for model in models]
        self.bucket_name, self.bucket_arn = files.bucket_name, files.bucket_arn
        self.register_outputs({"bucketName": self.bucket_name})

    def _baked(
        self,
        name: str,
        *,
        namespace: str,
        region: str,
        files: NodeFiles,
        parent_image: pulumi.Input[str],
        tags: Mapping[str, str],
    ) -> pulumi.Output[str]:
        """The newest image that was baked, ``parent_image`` while there is none; and what bakes the next one."""
        pipeline = ImagePipeline(
            name,
            namespace=namespace,
            region=region,
            package=files.package,
            bucket_name=files.bucket_name,
            bucket_arn=files.bucket_arn,
            parent_image=parent_image,
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[files.uploaded]),
        )
        self.bake_command = pipeline.start_command
        return baked_image(namespace, otherwise=parent_image, parent=self)

    def _models(
        self, groups: Sequence[NodeGroup], surroundings: Surroundings, tags: Mapping[str, str]
    ) -> Sequence[ModelNodes]:
        return [
            ModelNodes(
                model,
                groups=[group for group in groups if group.model == model],
                surroundings=surroundings,
                tags=tags,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for model in dict.fromkeys(group.model for group in groups)
        ]


def _newest_image(parent: pulumi.Resource) -> pulumi.Output[str]:
    # Not `value`, which is a secret to Pulumi: a change of the image would not show in a preview.
    found = aws.ssm.get_parameter_output(name=AMI_PARAMETER, opts=pulumi.InvokeOutputOptions(parent=parent))
    image: pulumi.Output[str] = found.insecure_value
    return image
