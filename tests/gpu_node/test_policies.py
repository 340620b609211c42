"""What a node's role allows, and what not."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gpu_node.policies import NodeAccess, bucket_policy, node_policy, trust_policy

ACCESS = NodeAccess(
    model="Qwen/Qwen3",
    groups=("diogenes-prod-qwen-qwen3-spot", "diogenes-prod-qwen-qwen3-on-demand"),
    instances_table_arn="arn:aws:dynamodb:eu-west-1:111122223333:table/diogenes-prod-instances",
    models_table_arn="arn:aws:dynamodb:eu-west-1:111122223333:table/diogenes-prod-models",
    bucket_arn="arn:aws:s3:::nodes-1234567",
    hf_token_parameter_arn="arn:aws:ssm:eu-west-1:111122223333:parameter/diogenes-prod/hf-token",
)


def granted(action: str, resource: str) -> Iterator[Any]:
    """The statements that allow it, conditions aside."""
    for statement in node_policy(ACCESS)["Statement"]:
        if action in statement["Action"] and any(fnmatch.fnmatch(resource, arn) for arn in statement["Resource"]):
            yield statement


def group_arn(name: str) -> str:
    return f"arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:0000-1111:autoScalingGroupName/{name}"


@pytest.mark.parametrize("action", ["TerminateInstanceInAutoScalingGroup", "CompleteLifecycleAction"])
def test_a_node_may_leave_the_groups_of_its_model_and_no_other(action: str) -> None:
    for group in ACCESS.groups:
        assert list(granted(f"autoscaling:{action}", group_arn(group)))
    assert not list(granted(f"autoscaling:{action}", group_arn("diogenes-prod-other-spot")))
    assert not list(granted(f"autoscaling:{action}", group_arn("diogenes-prod-qwen-qwen3-spot-2")))


def test_a_node_reads_the_row_of_its_own_model_only() -> None:
    (statement,) = granted("dynamodb:GetItem", ACCESS.models_table_arn)
    assert statement["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["Qwen/Qwen3"]}}


def test_a_node_can_change_rows_of_instances_and_read_none_of_the_rest() -> None:
    assert list(granted("dynamodb:UpdateItem", ACCESS.instances_table_arn))
    for table in ("api-keys", "usage", "control", "sessions"):
        arn = ACCESS.models_table_arn.replace("models", table)
        assert not [each for action in ("GetItem", "UpdateItem") for each in granted(f"dynamodb:{action}", arn)]


@pytest.mark.parametrize(
    ("action", "key", "allowed"),
    [
        ("GetObject", "agent/0123.tar.gz", True),
        ("PutObject", "agent/0123.tar.gz", False),
        ("GetObject", "agents/0123.tar.gz", False),
        ("GetObject", "anything/else", False),
        ("PutObject", "anything/else", False),
        ("GetObject", "weights/Qwen--Qwen3/c/model.safetensors", True),
        ("PutObject", "weights/Qwen--Qwen3/c.manifest", True),
        ("DeleteObject", "weights/Qwen--Qwen3/c.claim", True),
        ("DeleteObject", "weights/Qwen--Qwen3/c.manifest", False),
        ("GetObject", "weights/Qwen--Qwen3-14B/c.manifest", False),
        ("PutObject", "compile-cache/Qwen--Qwen3/key/manifest", True),
        ("PutObject", "compile-cache/Qwen--Other/key/manifest", False),
        ("DeleteObject", "compile-cache/Qwen--Qwen3/key/manifest", False),
    ],
)
def test_of_the_bucket_a_node_has_the_agents_package_to_read_and_its_own_models_files(
    action: str, key: str, allowed: bool
) -> None:
    assert bool(list(granted(f"s3:{action}", f"{ACCESS.bucket_arn}/{key}"))) is allowed


def test_a_node_lists_the_files_of_its_own_model_only() -> None:
    (statement,) = granted("s3:ListBucket", ACCESS.bucket_arn)
    assert statement["Condition"] == {
        "StringLike": {"s3:prefix": ["weights/Qwen--Qwen3/*", "compile-cache/Qwen--Qwen3/*"]}
    }


def test_files_go_by_the_repository_where_the_model_has_another_name() -> None:
    policy = node_policy(replace(ACCESS, repository="org/tiny"))
    (files,) = [each for each in policy["Statement"] if each["Sid"] == "KeepOwnFiles"]
    assert files["Resource"] == [f"{ACCESS.bucket_arn}/{each}/org--tiny/*" for each in ("weights", "compile-cache")]


def test_the_token_is_deciphered_for_the_parameter_alone() -> None:
    (statement,) = granted("kms:Decrypt", "arn:aws:kms:eu-west-1:111122223333:key/1")
    assert statement["Condition"]["StringEquals"] == {
        "kms:ViaService": "ssm.eu-west-1.amazonaws.com",
        "kms:EncryptionContext:PARAMETER_ARN": ACCESS.hf_token_parameter_arn,
    }


def test_without_a_token_there_is_nothing_to_read_or_decipher() -> None:
    policy = node_policy(replace(ACCESS, hf_token_parameter_arn=None))
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert not {action for action in actions if action.startswith(("ssm:", "kms:"))}


def test_nothing_is_allowed_on_everything() -> None:
    for statement in node_policy(ACCESS)["Statement"]:
        assert "*" not in statement["Resource"]
        assert not [action for action in statement["Action"] if "*" in action]


def test_only_ec2_takes_the_role_and_only_encrypted_connections_reach_the_bucket() -> None:
    assert [each["Principal"] for each in trust_policy()["Statement"]] == [{"Service": "ec2.amazonaws.com"}]
    (statement,) = bucket_policy(ACCESS.bucket_arn)["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
