"""What is registered for the GPU nodes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_plane import schema
from gpu_node import package
from gpu_node.engine_settings import EngineKind, EngineSettings
from gpu_node.infra.files import COMPILE_CACHE_DAYS
from gpu_node.infra.group import bounded
from gpu_node.protocol import DRAIN_HOOK, DRAIN_HOOK_S
from gpu_node.settings import NodeSettings
from gpu_node.weights import Source
from tests.infra.component import Registration, Registrations
from tests.infra.nodes import (
    AMI,
    BIG,
    GROUPS,
    NAMESPACE,
    ON_DEMAND,
    SPOT,
    built,
    default,
    groups_of,
    node_group,
    templates,
)

# -- groups --------------------------------------------------------------------------------------------------------


def test_each_group_rests_at_zero_and_how_many_it_has_is_not_the_programs_to_say() -> None:
    groups = groups_of(default())
    assert set(groups) == {group.name for group in GROUPS}
    for group in groups.values():
        assert (group.inputs["minSize"], group.inputs["maxSize"]) == (0, schema.GROUP_MAX_SIZE)
        assert "desiredCapacity" not in group.inputs
        assert list(group.ignore_changes) == ["desiredCapacity"]
        assert group.inputs["vpcZoneIdentifiers"] == ["subnet-a", "subnet-b"]
        assert group.inputs["waitForCapacityTimeout"] == "0"
        assert (group.inputs["forceDelete"], group.inputs["capacityRebalance"]) == (False, False)


def test_a_node_that_leaves_by_itself_is_neither_replaced_nor_moved() -> None:
    for group in groups_of(default()).values():
        assert group.inputs["suspendedProcesses"] == ["AZRebalance", "ReplaceUnhealthy"]


def test_the_ladder_of_types_keeps_its_order_on_one_market() -> None:
    groups = groups_of(default())
    for group, percentage in ((SPOT, 0), (ON_DEMAND, 100)):
        policy = groups[group.name].inputs["mixedInstancesPolicy"]
        assert [each["instanceType"] for each in policy["launchTemplate"]["overrides"]] == ["g6.xlarge", "g5.xlarge"]
        distribution = policy["instancesDistribution"]
        assert distribution["onDemandPercentageAboveBaseCapacity"] == percentage
        assert distribution["onDemandBaseCapacity"] == 0
        assert distribution["onDemandAllocationStrategy"] == "prioritized"
        assert distribution["spotAllocationStrategy"] == "capacity-optimized-prioritized"


def test_a_new_template_is_taken_by_the_next_instance_and_disturbs_none() -> None:
    for name, group in groups_of(default()).items():
        specification = group.inputs["mixedInstancesPolicy"]["launchTemplate"]["launchTemplateSpecification"]
        assert specification == {"launchTemplateId": templates(default())[name].id, "version": "$Latest"}
        assert "instanceRefresh" not in group.inputs


def test_permissions_and_the_control_plane_find_groups_and_instances_by_their_tags() -> None:
    for group in GROUPS:
        tags = groups_of(default())[group.name].inputs["tags"]
        assert {tag["key"]: tag["value"] for tag in tags} == {**group.tags, "Name": group.name}
        assert all(tag["propagateAtLaunch"] for tag in tags)


def test_whatever_a_group_takes_down_waits_for_its_drain() -> None:
    for group in groups_of(default()).values():
        assert group.inputs["initialLifecycleHooks"] == [
            {
                "name": DRAIN_HOOK,
                "lifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
                "heartbeatTimeout": DRAIN_HOOK_S,
                "defaultResult": "CONTINUE",
            }
        ]


def test_a_group_that_is_removed_has_time_to_drain_and_its_nodes_the_permission_to_leave() -> None:
    policies = {each.urn for each in default().of("iam/rolePolicy:RolePolicy")}
    for group in groups_of(default()).values():
        assert group.request.customTimeouts.delete == "30m"
        assert len(group.explicit_dependencies & policies) == 1


# -- templates -----------------------------------------------------------------------------------------------------


def test_an_instance_that_shuts_down_is_gone() -> None:
    for template in templates(default()).values():
        assert template.inputs["instanceInitiatedShutdownBehavior"] == "terminate"
        (volume,) = template.inputs["blockDeviceMappings"]
        assert volume["deviceName"] == "/dev/sda1"
        assert volume["ebs"]["deleteOnTermination"] == "true"


def test_the_root_volume_is_encrypted_and_filled_at_a_known_pace() -> None:
    for template in templates(default()).values():
        (volume,) = template.inputs["blockDeviceMappings"]
        disk = volume["ebs"]
        assert (disk["volumeSize"], disk["volumeType"], disk["encrypted"]) == (120, "gp3", "true")
        assert (disk["throughput"], disk.get("iops")) == (250, None)
        assert 100 <= disk["volumeInitializationRate"] <= 300


def test_only_the_machine_itself_reaches_its_metadata() -> None:
    for template in templates(default()).values():
        assert template.inputs["metadataOptions"] == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
            "instanceMetadataTags": "disabled",
        }


def test_nodes_have_a_public_address_and_the_nodes_security_group() -> None:
    for template in templates(default()).values():
        (interface,) = template.inputs["networkInterfaces"]
        assert interface["associatePublicIpAddress"] == "true"
        assert interface["securityGroups"] == ["sg-nodes"]


def test_instance_and_volume_carry_the_groups_tags() -> None:
    for group in GROUPS:
        kinds = {
            each["resourceType"]: each["tags"] for each in templates(default())[group.name].inputs["tagSpecifications"]
        }
        assert set(kinds) == {"instance", "volume"}
        assert all(tags.items() >= group.tags.items() for tags in kinds.values())


def test_the_image_is_awss_newest_or_the_pinned_one_and_no_secret() -> None:
    assert {each.inputs["imageId"] for each in templates(default()).values()} == {AMI}
    assert not any("imageId" in each.secrets for each in templates(default()).values())
    pinned = templates(built(ami_id="ami-mine")).values()
    assert {each.inputs["imageId"] for each in pinned} == {"ami-mine"}


@pytest.mark.parametrize("token", [True, False])
def test_user_data_tells_a_node_who_it_is(token: bool) -> None:
    registrations = built(token=token)
    bucket = registrations.one("s3/bucket:Bucket")
    for group in GROUPS:
        text = base64.b64decode(templates(registrations)[group.name].inputs["userData"]).decode()
        assert len(text) < 4096
        files = {file["path"]: file["content"] for file in json.loads(text.split("\n", 1)[1])["write_files"]}
        environment = dict(line.split("=", 1) for line in files["/etc/diogenes/node.env"].splitlines())
        settings = NodeSettings.from_env(environment)
        assert (settings.model, settings.group) == (group.model, group.name)
        assert (settings.instances_table, settings.models_table) == (
            f"{NAMESPACE}-instances",
            f"{NAMESPACE}-models",
        )
        assert ("DIOGENES_HF_TOKEN_PARAMETER" in environment) is token
        engine = EngineSettings.from_env(environment, node="")
        assert (engine.bucket, engine.weights, engine.kind) == (bucket.id, Source.HUB, EngineKind.INSTALL)
        assert f"bucket={bucket.id}\n" in files["/etc/diogenes/start.sh"]
        assert f"key={package.build().key}\n" in files["/etc/diogenes/start.sh"]


def test_engine_and_weights_are_told_to_the_nodes_of_those_models_that_want_them() -> None:
    mirrored = replace(BIG, repository="org/other", weights="s3")
    registrations = built([SPOT, mirrored], engine=EngineSettings(kind=EngineKind.CONTAINER, image="vllm:1"))
    told = {name: told_to_a_node(each) for name, each in templates(registrations).items()}
    assert {settings.image for settings in told.values()} == {"vllm:1"}
    assert (told[SPOT.name].weights, told[BIG.name].weights) == (Source.HUB, Source.S3)
    statements = policies_by_model(registrations)[BIG.model]["Statement"]
    (files,) = [each for each in statements if each["Sid"] == "KeepOwnFiles"]
    assert [arn.partition("/")[2] for arn in files["Resource"]] == [
        "weights/org--other/*",
        "compile-cache/org--other/*",
    ]


def told_to_a_node(template: Registration) -> EngineSettings:
    text = base64.b64decode(template.inputs["userData"]).decode()
    files = {file["path"]: file["content"] for file in json.loads(text.split("\n", 1)[1])["write_files"]}
    lines = files["/etc/diogenes/node.env"].splitlines()
    return EngineSettings.from_env(dict(line.split("=", 1) for line in lines), node="")


# -- roles ---------------------------------------------------------------------------------------------------------


def policies_by_model(registrations: Registrations) -> Mapping[str, Any]:
    found = {}
    for each in registrations.of("iam/rolePolicy:RolePolicy"):
        policy = json.loads(each.inputs["policy"])
        (row,) = [statement for statement in policy["Statement"] if statement["Sid"] == "ReadOwnModel"]
        (model,) = row["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
        found[model] = policy
    return found


def test_the_groups_of_a_model_share_its_role_and_models_share_none() -> None:
    roles = default().of("iam/role:Role")
    assert len(roles) == len({group.model for group in GROUPS})
    profiles = {name: each.inputs["iamInstanceProfile"]["arn"] for name, each in templates(default()).items()}
    assert profiles[SPOT.name] == profiles[ON_DEMAND.name] != profiles[BIG.name]


def test_a_role_knows_exactly_its_models_groups() -> None:
    policies = policies_by_model(default())
    for model in (SPOT.model, BIG.model):
        (leave,) = [each for each in policies[model]["Statement"] if each["Sid"] == "Leave"]
        names = [arn.rpartition("/")[2] for arn in leave["Resource"]]
        assert names == [group.name for group in GROUPS if group.model == model]


@pytest.mark.parametrize("token", [True, False])
def test_a_role_reads_the_token_only_where_there_is_one(token: bool) -> None:
    for policy in policies_by_model(built(token=token)).values():
        actions = {action for statement in policy["Statement"] for action in statement["Action"]}
        assert ("ssm:GetParameter" in actions) is token


def test_names_are_within_what_aws_allows() -> None:
    slug = "x" * 128
    registrations = built([node_group("x" * 128, slug), node_group("x" * 127 + "y", "x" * 127 + "y")])
    for type_, limit in (("iam/role:Role", 64), (":InstanceProfile", 128), (":LaunchTemplate", 128), (":Group", 255)):
        names = [each.inputs["name"] for each in registrations.of(type_)]
        assert len(set(names)) == 2
        assert max(map(len, names)) <= limit


def test_a_name_that_fits_is_left_alone() -> None:
    assert bounded("diogenes-prod-tiny", 64, suffix="-node") == "diogenes-prod-tiny-node"
    assert f"{NAMESPACE}-qwen-qwen3-14b-awq-node" in {each.name for each in default().of("iam/role:Role")}


# -- the bucket ----------------------------------------------------------------------------------------------------


def test_the_bucket_is_private_encrypted_and_leaves_with_the_stack() -> None:
    bucket = default().one("s3/bucket:Bucket")
    assert bucket.inputs["forceDestroy"] is True
    assert "bucket" not in bucket.inputs  # its name is the only one in the world, so Pulumi makes it up
    block = default().one(":BucketPublicAccessBlock").inputs
    switches = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert all(block[switch] for switch in switches)
    (rule,) = default().one(":BucketServerSideEncryptionConfiguration").inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    policy = json.loads(default().one(":BucketPolicy").inputs["policy"])
    assert policy["Statement"][0]["Effect"] == "Deny"


def test_uploads_that_broke_off_do_not_stay_and_compiled_code_not_for_ever() -> None:
    uploads, caches = default().one(":BucketLifecycleConfiguration").inputs["rules"]
    assert (uploads["status"], uploads["abortIncompleteMultipartUpload"]) == ("Enabled", {"daysAfterInitiation": 1})
    assert (caches["status"], caches["filter"]) == ("Enabled", {"prefix": "compile-cache/"})
    assert caches["expiration"] == {"days": COMPILE_CACHE_DAYS}
    assert not [rule for rule in (uploads, caches) if rule["filter"]["prefix"].startswith("weights")]


def test_the_agents_package_is_named_by_its_content_and_outlives_its_successor() -> None:
    uploaded = default().one(":BucketObjectv2")
    assert uploaded.inputs["key"] == package.build().key
    assert base64.b64decode(uploaded.inputs["contentBase64"]) == package.build().content
    assert uploaded.request.retainOnDelete
    assert all(uploaded.urn in each.explicit_dependencies for each in templates(default()).values())


# -- the whole -----------------------------------------------------------------------------------------------------


def test_everything_has_its_place_and_what_can_carry_a_tag_carries_it() -> None:
    taggable = ("iam/role:Role", ":InstanceProfile", ":LaunchTemplate", "s3/bucket:Bucket")
    for each in default():
        assert each.type.startswith("diogenes:gpu_node:") or default().by_urn(each.parent).type.startswith(
            "diogenes:gpu_node:"
        )
        if each.type.endswith(taggable):
            assert each.inputs["tags"][schema.TAG] == NAMESPACE


def test_without_models_there_is_a_bucket_and_nothing_that_could_cost() -> None:
    registrations = built([])
    assert len(registrations.of("s3/bucket:Bucket")) == 1
    assert not groups_of(registrations)
