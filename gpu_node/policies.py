"""What a node may do in the account: IAM and bucket policies, from names and ARNs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

AGENT_PREFIX = "agent/"
"""Where in the bucket the agent's packages are."""

CACHE_PREFIX = "compile-cache/"
"""Where in the bucket is what engines compiled."""


def weights_prefix(repository: str) -> str:
    """Where in the bucket the mirror of a repository is."""
    return f"weights/{_folder(repository)}/"


def cache_prefix(repository: str) -> str:
    """Where in the bucket is what the engine compiled for a repository."""
    return f"{CACHE_PREFIX}{_folder(repository)}/"


def _folder(repository: str) -> str:
    # No repository has two hyphens in its name, so that none lies in another's folder.
    return repository.replace("/", "--")


@dataclass(frozen=True)
class NodeAccess:
    """What the nodes of one model have to do with."""

    model: str
    groups: Sequence[str]  # names of the model's Auto Scaling groups
    instances_table_arn: str
    models_table_arn: str
    bucket_arn: str
    hf_token_parameter_arn: str | None = None
    repository: str = ""  # on the hub; the model's name where it is empty


def node_policy(access: NodeAccess) -> Document:
    """The policy of one model's nodes.

    Not limited to the node's own row of the instances table and to its own instance in the group: IAM knows the
    instance only as an ARN, the key of the row is the bare id, and no policy can take the one out of the other; Auto
    Scaling knows no condition on instances at all. So a node that is taken over can tell lies about another node, and
    end one of its own model. It cannot start anything.
    """
    region, account = access.instances_table_arn.split(":")[3:5]
    statements = [
        _allow("Report", ["dynamodb:UpdateItem"], [access.instances_table_arn]),
        _allow(
            "ReadOwnModel",
            ["dynamodb:GetItem"],
            [access.models_table_arn],
            {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [access.model]}},
        ),
        _allow(
            "Leave",
            ["autoscaling:TerminateInstanceInAutoScalingGroup", "autoscaling:CompleteLifecycleAction"],
            # By name, with a star for the id that AWS adds: the policy must stand before the group and outlive it.
            [
                f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{group}"
                for group in access.groups
            ],
        ),
        _allow("ReadAgent", ["s3:GetObject"], [f"{access.bucket_arn}/{AGENT_PREFIX}*"]),
        *_files(access),
        *_token(access, region=region, account=account),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def read_package_policy(bucket_arn: str) -> Document:
    """What bakes an image reads the agent's package, and nothing else of the bucket."""
    return {
        "Version": "2012-10-17",
        "Statement": [_allow("ReadAgent", ["s3:GetObject"], [f"{bucket_arn}/{AGENT_PREFIX}*"])],
    }


def trust_policy(service: str = "ec2.amazonaws.com") -> Document:
    """Who may take a role: EC2, for the instance it runs on, or another service of AWS."""
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
    return {"Version": "2012-10-17", "Statement": [statement]}


def bucket_policy(bucket_arn: str) -> Document:
    """Nobody reads or writes over a connection that is not encrypted."""
    statement = {
        "Sid": "EncryptedConnectionsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket_arn, f"{bucket_arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _files(access: NodeAccess) -> Sequence[Document]:
    """The mirror and the compile cache of the model's own repository: to read, to write, to resume; never to delete,
    but for the claim on a mirror."""
    repository = access.repository or access.model
    weights, cache = weights_prefix(repository), cache_prefix(repository)
    objects = [f"{access.bucket_arn}/{prefix}*" for prefix in (weights, cache)]
    return [
        _allow(
            "KeepOwnFiles",
            ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
            objects,
        ),
        _allow("ReleaseClaim", ["s3:DeleteObject"], [f"{access.bucket_arn}/{weights}*.claim"]),
        _allow(
            "ListOwnFiles",
            ["s3:ListBucket"],
            [access.bucket_arn],
            {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in (weights, cache)]}},
        ),
        _allow("ListOwnUploads", ["s3:ListBucketMultipartUploads"], [access.bucket_arn]),
    ]


def _token(access: NodeAccess, *, region: str, account: str) -> Sequence[Document]:
    arn = access.hf_token_parameter_arn
    if arn is None:
        return []
    through_ssm = {
        "StringEquals": {
            "kms:ViaService": f"ssm.{region}.amazonaws.com",
            "kms:EncryptionContext:PARAMETER_ARN": arn,
        }
    }
    return [
        _allow("ReadToken", ["ssm:GetParameter"], [arn]),
        _allow("DecryptToken", ["kms:Decrypt"], [f"arn:aws:kms:{region}:{account}:key/*"], through_ssm),
    ]


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str], condition: Document | None = None) -> Document:
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return statement | ({"Condition": condition} if condition else {})
