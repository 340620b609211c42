"""The one container image, built where Pulumi runs, and its registry."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi
import pulumi_aws as aws
import pulumi_docker_build as docker_build

from control_plane.infra.policies import Place, lambda_may_pull
from control_plane.schema import TAG

PLATFORMS: Mapping[str, docker_build.Platform] = {
    "arm64": docker_build.Platform.LINUX_ARM64,
    "amd64": docker_build.Platform.LINUX_AMD64,
}
"""By ``diogenes:architecture``."""

KEPT_IMAGES = 5
"""Earlier images that stay: a task definition that was not woken since still names one of them."""


class Image(pulumi.ComponentResource):
    """The image in its repository; ``uri`` names it by its digest.

    A preview builds nothing. The image carries no attestation, since Lambda refuses manifest lists: the provider
    switches provenance off, and there is one platform only.
    """

    def __init__(
        self,
        name: str,
        *,
        place: pulumi.Output[Place],
        namespace: str,
        architecture: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:Image", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        repository = aws.ecr.Repository(
            name,
            name=namespace,
            force_delete=True,  # images are made again from the source
            image_tag_mutability="MUTABLE",  # one tag moves on; what runs is named by its digest
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            tags={TAG: namespace},
            opts=child,
        )
        aws.ecr.LifecyclePolicy(name, repository=repository.name, policy=_keep_few(), opts=child)
        access = aws.ecr.RepositoryPolicy(
            name, repository=repository.name, policy=place.apply(lambda_may_pull), opts=child
        )
        login = aws.ecr.get_authorization_token_output(registry_id=repository.registry_id)
        image = docker_build.Image(
            name,
            push=True,
            build_on_preview=False,
            context=docker_build.BuildContextArgs(location="."),  # Pulumi runs in the project's root
            dockerfile=docker_build.DockerfileArgs(location="control_plane/Dockerfile"),
            platforms=[PLATFORMS[architecture]],
            tags=[pulumi.Output.concat(repository.repository_url, ":latest")],
            registries=[
                docker_build.RegistryArgs(
                    address=repository.repository_url,
                    username=login.user_name,
                    password=pulumi.Output.secret(login.password),
                )
            ],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[access]),
        )
        self.repository_arn = repository.arn
        # Not the image's `ref`, which has tag and digest: Lambda takes one or the other.
        self.uri = pulumi.Output.concat(repository.repository_url, "@", image.digest)
        self.register_outputs({"uri": self.uri})


def _keep_few() -> str:
    rule = {
        "rulePriority": 1,
        "description": f"keep the last {KEPT_IMAGES} images without a tag",
        "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": KEPT_IMAGES},
        "action": {"type": "expire"},
    }
    return json.dumps({"rules": [rule]})
