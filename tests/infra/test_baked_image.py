"""What bakes the engine into an image, and which image nodes boot from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from control_plane import schema
from gpu_node import package
from gpu_node.image.document import AGENT_HOME as BAKED_AGENT
from gpu_node.image.document import ENGINE_HOME as BAKED_ENGINE
from gpu_node.image.document import Baking
from tests.infra.component import Answer
from tests.infra.nodes import AMI, NAMESPACE, built, default, templates

BAKED: Mapping[str, Answer] = {":getAmiIds": lambda given: {"ids": ["ami-baked", "ami-older"]}}
UNBAKED: Mapping[str, Answer] = {":getAmiIds": lambda given: {"ids": []}}


def test_without_the_switch_nothing_is_baked_or_asked_for() -> None:
    assert not [each for each in default() if "imagebuilder" in each.type]


@pytest.mark.parametrize(("answers", "image"), [(BAKED, "ami-baked"), (UNBAKED, AMI)])
def test_nodes_boot_from_the_newest_image_that_was_baked_and_from_awss_until_there_is_one(
    answers: Mapping[str, Answer], image: str
) -> None:
    registrations = built(bake_image=True, answers=answers)
    assert {each.inputs["imageId"] for each in templates(registrations).values()} == {image}
    assert registrations.one(":ImageRecipe").inputs["parentImage"] == AMI


def test_the_pipeline_installs_the_engine_from_the_package_that_it_checked() -> None:
    registrations = built(bake_image=True, answers=UNBAKED)
    component, recipe = registrations.one("imagebuilder/component:Component"), registrations.one(":ImageRecipe")
    told = json.loads(component.inputs["data"])
    commands = "\n".join(step["inputs"]["commands"][0] for phase in told["phases"] for step in phase["steps"])
    assert package.build().key in commands
    assert f"echo '{package.build().sha256}  /opt/diogenes-baking/package.tar.gz' | sha256sum --check" in commands
    assert f"/opt/diogenes-baking/install.sh {BAKED_ENGINE}" in commands
    assert f"/opt/diogenes-baking/agent_env.sh {BAKED_AGENT}" in commands
    assert f"baked={BAKED_AGENT}\n" in (package.HOME / "bootstrap.sh").read_text()  # where a node looks for it
    assert len(component.inputs["data"]) < 16_000  # what Image Builder takes in line
    assert recipe.inputs["components"] == [{"componentArn": component.state["arn"]}]
    assert recipe.inputs["version"] == component.inputs["version"]
    pipeline = registrations.one("imagebuilder/imagePipeline:ImagePipeline")
    assert "schedule" not in pipeline.inputs  # it is started by hand


def test_another_parent_or_package_is_another_version_of_the_image() -> None:
    one = Baking("eu-west-1", "nodes-1", package.Package(b"a"), "ami-1")
    versions = {
        one.version,
        replace(one, parent_image="ami-2").version,
        replace(one, package=package.Package(b"b")).version,
    }
    assert len(versions) == 3
    for version in versions:
        assert max(int(number) for number in version.split(".")) < 2**30


def test_what_bakes_reads_the_package_and_older_images_go_with_their_snapshots() -> None:
    registrations = built(bake_image=True, answers=UNBAKED)
    bucket = registrations.one("s3/bucket:Bucket")
    policy = json.loads(registrations.one("iam/rolePolicy:RolePolicy", f"{NAMESPACE}-bake").inputs["policy"])
    (statement,) = policy["Statement"]
    assert (statement["Action"], statement["Resource"]) == (["s3:GetObject"], [f"{bucket.state['arn']}/agent/*"])
    builder = registrations.one(":InfrastructureConfiguration")
    assert builder.inputs["instanceMetadataOptions"] == {"httpTokens": "required", "httpPutResponseHopLimit": 1}
    assert builder.inputs["terminateInstanceOnFailure"] is True
    (detail,) = registrations.one(":LifecyclePolicy").inputs["policyDetails"]
    assert detail["action"] == {"type": "DELETE", "includeResources": {"amis": True, "snapshots": True}}
    assert detail["filter"] == {"type": "COUNT", "value": 2}
    services = {
        json.loads(each.inputs["assumeRolePolicy"])["Statement"][0]["Principal"]["Service"]
        for each in registrations.of("iam/role:Role")
        if each.name in (f"{NAMESPACE}-bake", f"{NAMESPACE}-tidy")
    }
    assert services == {"ec2.amazonaws.com", "imagebuilder.amazonaws.com"}
    for each in registrations:
        if "imagebuilder" in each.type:
            assert each.inputs["tags"][schema.TAG] == NAMESPACE
