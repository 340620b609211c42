"""Who may do what: IAM documents from names and ARNs. Pure.

Everything is allowed by ARN, writes to Auto Scaling by tag as well. Only what AWS cannot limit stands on ``*``: the
``Describe…`` calls of Auto Scaling, EC2 and Elastic Load Balancing, ECS's list of a cluster's tasks, and the registry's
token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from control_plane import schema

Conditions = Mapping[str, Mapping[str, str]]

SERVING_TABLES: Mapping[str, Sequence[str]] = {
    schema.INSTANCES.name: ("PutItem", "Scan", "UpdateItem"),
    schema.MODELS.name: ("Scan", "UpdateItem"),
    schema.API_KEYS.name: ("DeleteItem", "PutItem", "Scan", "UpdateItem"),
    schema.USAGE.name: ("PutItem", "Query", "UpdateItem"),
    schema.CONTROL.name: ("DeleteItem", "GetItem", "PutItem", "Scan", "UpdateItem"),
    schema.SESSIONS.name: ("DeleteItem", "GetItem", "PutItem", "Scan", "UpdateItem"),
    schema.EVENTS.name: ("GetItem", "PutItem", "Query", "UpdateItem"),
}
"""What who answers requests does with each table."""

JANITOR_TABLES: Mapping[str, Sequence[str]] = {
    **{table: SERVING_TABLES[table] for table in (schema.INSTANCES.name, schema.MODELS.name, schema.CONTROL.name)},
    schema.USAGE.name: ("PutItem", "Query"),
    schema.EVENTS.name: SERVING_TABLES[schema.EVENTS.name],
}
"""The janitor's: the fleet's and the front's, and nobody's keys."""


@dataclass(frozen=True)
class Place:
    """Which account and region, and what of it is ours."""

    account: str
    region: str
    namespace: str


@dataclass(frozen=True)
class Statement:
    """Allow these actions on these resources while the conditions hold."""

    sid: str
    actions: Sequence[str]
    resources: Sequence[str]
    conditions: Conditions = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """What wakes and sleeps, and what it runs as."""

    service_arn: str
    cluster_arn: str
    listener_arn: str
    task_role_arns: Sequence[str]  # of the task and of its execution


def document(statements: Sequence[Statement]) -> str:
    """A policy that allows this and nothing else."""
    return _policy(
        [
            {
                "Sid": statement.sid,
                "Effect": "Allow",
                "Action": sorted(statement.actions),
                "Resource": list(statement.resources),
                **({"Condition": statement.conditions} if statement.conditions else {}),
            }
            for statement in statements
        ]
    )


def trust(service: str, *, place: Place | None = None) -> str:
    """Who may take a role: an AWS service; with ``place``, only for the ECS tasks of that account and region."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": service},
    }
    if place:
        statement["Condition"] = {
            "StringEquals": {"aws:SourceAccount": place.account},
            "ArnLike": {"aws:SourceArn": f"arn:aws:ecs:{place.region}:{place.account}:*"},
        }
    return _policy([statement])


def tables(arns: Mapping[str, str], actions: Mapping[str, Sequence[str]]) -> Sequence[Statement]:
    """These actions on these tables, by the tables' names in the schema."""
    return [
        Statement(
            f"Table{''.join(word.title() for word in name.split('-'))}",
            [f"dynamodb:{action}" for action in allowed],
            [arns[name]],
        )
        for name, allowed in actions.items()
    ]


def entrance(place: Place) -> Sequence[Statement]:
    """Read who may come in, and by which way: these parameters, and no other, such as the nodes' token.

    No kms:Decrypt: the policy of AWS's own key for parameters admits the whole account through SSM.
    """
    names = [schema.parameter_name(place.namespace, name) for name in schema.ENTRANCE]
    arns = [f"arn:aws:ssm:{place.region}:{place.account}:parameter{name}" for name in names]
    return [Statement("ReadEntrance", ["ssm:GetParameters"], arns)]


def hub_token(arn: str) -> Sequence[Statement]:
    """Read the token that nodes fetch models with: whoever launches one asks the hub first what it opens."""
    return [Statement("ReadHubToken", ["ssm:GetParameter"], [arn])]


def notices(topic_arn: str, parameter_arns: Sequence[str]) -> Sequence[Statement]:
    """Mail by this topic; and read where the webhook is and what signs for it, if there is one."""
    webhook = [Statement("ReadWebhook", ["ssm:GetParameters"], parameter_arns)] if parameter_arns else []
    return [Statement("MailNotices", ["sns:Publish"], [topic_arn]), *webhook]


def traces_headers(arn: str) -> Sequence[Statement]:
    """Read what the endpoint of traces wants to be told."""
    return [Statement("ReadTracesHeaders", ["ssm:GetParameter"], [arn])]


def fleet(place: Place, *, spot: bool) -> Sequence[Statement]:
    """Start and end GPU nodes, of groups with our name and our tag only; with ``spot``, some of them on Spot."""
    ours = {"StringEquals": {f"aws:ResourceTag/{schema.TAG}": place.namespace}}
    ec2 = f"arn:aws:ec2:{place.region}:{place.account}"
    return [
        Statement(
            "WatchFleet",
            ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"],
            ["*"],
        ),
        Statement(
            "MoveFleet",
            [
                "autoscaling:CompleteLifecycleAction",
                "autoscaling:LaunchInstances",
                "autoscaling:SetDesiredCapacity",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            [
                f"arn:aws:autoscaling:{place.region}:{place.account}:autoScalingGroup:*"
                f":autoScalingGroupName/{place.namespace}-*"
            ],
            ours,
        ),
        # Auto Scaling's guide asks these two of whoever calls LaunchInstances. Neither starts anything alone: nobody
        # here may RunInstances, change a launch template, or pass a node's role.
        Statement(
            "LaunchWithOurs",
            ["ec2:CreateFleet"],
            [f"{ec2}:{kind}/*" for kind in ("launch-template", "security-group", "subnet")],
            ours,
        ),
        Statement("LaunchAnew", ["ec2:CreateFleet"], _launched(place.region, ec2, spot=spot)),
        # What an instance cost: its own times, and Spot's price at its launch.
        Statement("ReadCosts", ["ec2:DescribeInstances", "ec2:DescribeSpotPriceHistory"], ["*"]),
        Statement("ReadLaunchTemplates", ["ec2:DescribeLaunchTemplateVersions"], ["*"]),
        *(_first_spot(place) if spot else []),
    ]


def _first_spot(place: Place) -> Sequence[Statement]:
    """The first Spot instance of an account needs a role of AWS's own, made in the name of who asks for it."""
    service = "spot.amazonaws.com"
    role = f"arn:aws:iam::{place.account}:role/aws-service-role/{service}/AWSServiceRoleForEC2Spot"
    condition = {"StringEquals": {"iam:AWSServiceName": service}}
    return [Statement("FirstSpot", ["iam:CreateServiceLinkedRole"], [role], condition)]


def front(told: Front) -> Sequence[Statement]:
    """Wake the control plane, put it to sleep, and turn the listener to who answers."""
    return [
        Statement(
            "WatchFront",
            ["elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeTargetHealth"],
            ["*"],
        ),
        Statement("TurnListener", ["elasticloadbalancing:ModifyListener"], [told.listener_arn]),
        Statement("MoveService", ["ecs:DescribeServices", "ecs:UpdateService"], [told.service_arn]),
        # Why tasks end that shall not. ListTasks is asked of no resource of ours: the cluster is its condition.
        Statement("ListTasks", ["ecs:ListTasks"], ["*"], {"ArnEquals": {"ecs:cluster": told.cluster_arn}}),
        Statement("ReadTasks", ["ecs:DescribeTasks"], [f"{told.cluster_arn.replace(':cluster/', ':task/')}/*"]),
        # A wake names the newest task definition, and with it the roles of the task.
        Statement(
            "StartTaskAsItself",
            ["iam:PassRole"],
            list(told.task_role_arns),
            {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
    ]


def write_logs(group_arn: str) -> Sequence[Statement]:
    """Write into one log group; making another, or this one again after it is gone, is not allowed."""
    return [Statement("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group_arn}:*"])]


def pull_image(repository_arn: str) -> Sequence[Statement]:
    """Fetch images of one repository."""
    return [
        Statement("Registry", ["ecr:GetAuthorizationToken"], ["*"]),
        Statement(
            "PullImage",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [repository_arn],
        ),
    ]


def lambda_may_pull(place: Place) -> str:
    """The repository's own policy: Lambda fetches the image itself, for our functions."""
    return _policy(
        [
            {
                "Sid": "LambdaPullsImage",
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                "Condition": {
                    "ArnLike": {
                        "aws:SourceArn": f"arn:aws:lambda:{place.region}:{place.account}:function:{place.namespace}-*"
                    }
                },
            }
        ]
    )


def _launched(region: str, ec2: str, *, spot: bool) -> list[str]:
    made = ("fleet", "instance", "network-interface", "volume", *(["spot-instances-request"] if spot else []))
    read = ("image", "snapshot")  # AWS's own, too: they belong to no account
    return [*(f"{ec2}:{kind}/*" for kind in made), *(f"arn:aws:ec2:{region}::{kind}/*" for kind in read)]


def _policy(statements: Sequence[Mapping[str, object]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
