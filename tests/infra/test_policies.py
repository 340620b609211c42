"""What each role may do: as IAM understands it, by a linter's tables, and as we mean it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from control_plane import schema
from control_plane.infra import policies
from control_plane.infra.policies import Front, Place, Statement
from tests.infra.component import ACCOUNT, REGION, Registrations
from tests.infra.whole import CONFIGURATIONS, configured

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own: an old way to find its files, and one that it leaves open
    import parliament

PLACE = Place(ACCOUNT, REGION, "diogenes-desk")

NEWER_THAN_THE_LINTER = {
    "autoscaling:LaunchInstances": "came in 2025; the linter's tables of actions are older",
}

KNOWN_BETTER = {
    ("LaunchWithOurs", "RESOURCE_MISMATCH"): "the linter wants all kinds of resources of an action in one statement; "
    "AWS asks for each kind by itself, and only these bear tags",
    (
        "ListTasks",
        "RESOURCE_STAR",
    ): "the linter wants container instances, of which Fargate has none; AWS's own example "
    "is as ours, for everything in one cluster",
    ("TurnListener", "RESOURCE_MISMATCH"): "the linter's tables know listeners of network load balancers only",
}
"""Findings that are the linter's mistakes, by statement."""

FOR_ALL_RESOURCES = {
    "autoscaling:DescribeAutoScalingGroups": "AWS limits no Describe call of Auto Scaling",
    "autoscaling:DescribeScalingActivities": "AWS limits no Describe call of Auto Scaling",
    "ec2:DescribeInstances": "AWS limits no Describe call of EC2's instances",
    "ec2:DescribeSpotPriceHistory": "prices are nobody's resource",
    "ec2:DescribeLaunchTemplateVersions": "AWS limits no Describe call of EC2's launch templates",
    "ecr:GetAuthorizationToken": "the token is the registry's, not a repository's",
    "ecs:ListTasks": "its only resource are container instances: a condition names the cluster",
    "elasticloadbalancing:DescribeListeners": "AWS limits no Describe call of Elastic Load Balancing",
    "elasticloadbalancing:DescribeTargetHealth": "AWS limits no Describe call of Elastic Load Balancing",
}

ROLES = ("service-task", "service-execution", "night-role", "janitor-role")


def statements(policy: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = json.loads(policy)["Statement"]
    return found


def of_roles(registrations: Registrations) -> Mapping[str, str]:
    return {each.name: each.inputs["policy"] for each in registrations.of("iam/rolePolicy:RolePolicy")}


def actions(policy: str) -> set[str]:
    return {action for statement in statements(policy) for action in statement["Action"]}


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_the_linter_finds_nothing_in_any_role(name: str) -> None:
    registrations = configured(name).registrations
    found = {(role, *finding) for role, policy in of_roles(registrations).items() for finding in lint(policy)}
    assert {one for one in found if one[1:] not in KNOWN_BETTER} == set()


def test_what_the_linter_gets_wrong_it_still_gets_wrong() -> None:
    policy = of_roles(configured("as published").registrations)["service-task"]
    assert lint(policy) == KNOWN_BETTER.keys()


def lint(policy: str) -> set[tuple[str, str]]:
    """The linter's findings by statement, without those about actions that it cannot know."""
    found = set()
    for statement in statements(policy):
        known = [action for action in statement["Action"] if action not in NEWER_THAN_THE_LINTER]
        found |= {(statement["Sid"], issue) for issue in _issues({**statement, "Action": known})}
    return found


def _issues(statement: Mapping[str, Any]) -> Sequence[str]:
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return [finding.issue for finding in parliament.analyze_policy_string(policy).findings]


@pytest.mark.parametrize("action", sorted(NEWER_THAN_THE_LINTER))
def test_what_the_linter_is_not_asked_is_really_unknown_to_it(action: str) -> None:
    assert _issues({"Effect": "Allow", "Action": [action], "Resource": ["*"]}) == ["UNKNOWN_ACTION"]


def test_the_linter_sees_an_action_that_does_not_exist_and_a_resource_that_does_not_match() -> None:
    wrong = [
        Statement("Wrong", ["ecs:UpdateServices"], ["*"]),
        Statement("Mismatch", ["ssm:GetParameter"], ["arn:aws:s3:::bucket"]),
    ]
    assert lint(policies.document(wrong)) == {("Wrong", "UNKNOWN_ACTION"), ("Mismatch", "RESOURCE_MISMATCH")}


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_only_what_aws_cannot_limit_is_allowed_on_everything(name: str) -> None:
    for policy in of_roles(configured(name).registrations).values():
        for statement in statements(policy):
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in statement["Action"])
            if "*" in statement["Resource"]:
                assert set(statement["Action"]) <= FOR_ALL_RESOURCES.keys()


def test_what_is_allowed_on_everything_is_used_so() -> None:
    everywhere = {
        action
        for policy in of_roles(configured("as published").registrations).values()
        for statement in statements(policy)
        if "*" in statement["Resource"]
        for action in statement["Action"]
    }
    assert everywhere == FOR_ALL_RESOURCES.keys()


def test_nodes_are_started_and_ended_by_name_and_by_tag() -> None:
    moving = [
        statement
        for statement in statements(policies.document(policies.fleet(PLACE, spot=True)))
        if any(action.startswith("autoscaling:") and ":Describe" not in action for action in statement["Action"])
    ]
    assert len(moving) == 1
    (resource,) = moving[0]["Resource"]
    assert resource.endswith(":autoScalingGroupName/diogenes-desk-*")
    assert moving[0]["Condition"] == {"StringEquals": {"aws:ResourceTag/diogenes": "diogenes-desk"}}


def test_launch_templates_are_ours_and_nobody_may_start_an_instance_past_them() -> None:
    registrations = configured("as published").registrations
    for policy in of_roles(registrations).values():
        assert not {"ec2:RunInstances", "ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion"} & actions(policy)
        for statement in statements(policy):
            if any("launch-template/" in resource for resource in statement["Resource"]):
                assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/diogenes": "diogenes-desk"}}
    for template in registrations.of("ec2/launchTemplate:LaunchTemplate"):
        assert template.inputs["tags"][schema.TAG] == "diogenes-desk"


def test_each_table_s_actions_are_allowed_on_that_table_only() -> None:
    arns = {
        table.name: f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/diogenes-desk-{table.name}" for table in schema.TABLES
    }
    made = policies.tables(arns, policies.SERVING_TABLES)
    assert {(tuple(one.actions), tuple(one.resources)) for one in made} == {
        (tuple(f"dynamodb:{action}" for action in allowed), (arns[name],))
        for name, allowed in policies.SERVING_TABLES.items()
    }


def test_the_janitor_sees_no_keys_and_of_usage_what_budgets_need() -> None:
    policy = of_roles(configured("as published").registrations)["janitor-role"]
    assert "api-keys" not in policy
    assert "sessions" not in policy
    (usage,) = [one for one in statements(policy) if "usage" in str(one["Resource"])]
    assert set(usage["Action"]) == {"dynamodb:PutItem", "dynamodb:Query"}


@pytest.mark.parametrize(("name", "webhook"), [("as published", False), ("with notices", True)])
def test_the_janitor_alone_sends_notices_by_the_one_topic_and_reads_the_webhook_where_there_is_one(
    name: str, webhook: bool
) -> None:
    registrations = configured(name).registrations
    roles = of_roles(registrations)
    assert {role for role, policy in roles.items() if "sns:Publish" in actions(policy)} == {"janitor-role"}
    sent = {one["Sid"]: one["Resource"] for one in statements(roles["janitor-role"])}
    assert sent["MailNotices"] == [registrations.one(":Topic").state["arn"]]
    arns = [
        f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/diogenes-desk/notification-{what}" for what in ("webhook", "key")
    ]
    assert sent.get("ReadWebhook") == (arns if webhook else None)
    assert not any("notification-" in policy for role, policy in roles.items() if role != "janitor-role")


def test_events_are_written_by_all_and_never_taken_away() -> None:
    allowed = {f"dynamodb:{action}" for action in ("GetItem", "PutItem", "Query", "UpdateItem")}
    for role in ("janitor-role", "night-role", "service-task"):
        policy = of_roles(configured("as published").registrations)[role]
        on_events = [each for each in statements(policy) if any("-events" in arn for arn in each["Resource"])]
        assert {action for each in on_events for action in each["Action"]} == allowed


def test_the_wake_passes_the_tasks_roles_to_tasks_only() -> None:
    registrations = configured("as published").registrations
    for role in ("service-task", "night-role", "janitor-role"):
        passing = [one for one in statements(of_roles(registrations)[role]) if "iam:PassRole" in one["Action"]]
        assert [one["Condition"] for one in passing] == [
            {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
        ]
        assert passing[0]["Resource"] == [
            f"arn:aws:iam::{ACCOUNT}:role/diogenes-desk-task",
            f"arn:aws:iam::{ACCOUNT}:role/diogenes-desk-execution",
        ]


def test_one_listener_and_one_service_are_moved() -> None:
    cluster = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/desk"
    told = policies.front(Front("arn:service", cluster, "arn:listener", ["arn:role"]))
    moved = {action: one.resources for one in told for action in one.actions}
    assert moved["elasticloadbalancing:ModifyListener"] == ["arn:listener"]
    assert moved["ecs:UpdateService"] == moved["ecs:DescribeServices"] == ["arn:service"]
    assert moved["ecs:DescribeTasks"] == [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/desk/*"]
    (listing,) = (one for one in told if "ecs:ListTasks" in one.actions)
    assert listing.conditions == {"ArnEquals": {"ecs:cluster": cluster}}


@pytest.mark.parametrize(
    ("name", "spot"), [("as published", False), ("on Spot", True), ("on Spot, else On-Demand", True)]
)
def test_who_launches_may_make_spots_own_role_where_a_model_is_on_spot_and_nowhere_else(name: str, spot: bool) -> None:
    asked = [
        statement
        for policy in of_roles(configured(name).registrations).values()
        for statement in statements(policy)
        if "iam:CreateServiceLinkedRole" in statement["Action"]
    ]
    service = "spot.amazonaws.com"
    first = {
        "Sid": "FirstSpot",
        "Effect": "Allow",
        "Action": ["iam:CreateServiceLinkedRole"],
        "Resource": [f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{service}/AWSServiceRoleForEC2Spot"],
        "Condition": {"StringEquals": {"iam:AWSServiceName": service}},
    }
    assert asked == ([first] * 3 if spot else [])


@pytest.mark.parametrize("role", ["service-task", "night-role", "janitor-role"])
@pytest.mark.parametrize(("name", "spot"), [("as published", False), ("on Spot", True)])
def test_each_role_that_launches_may_do_so_on_spot_where_a_model_is(role: str, name: str, spot: bool) -> None:
    policy = of_roles(configured(name).registrations)[role]
    assert ("iam:CreateServiceLinkedRole" in actions(policy)) is spot
    assert ("spot-instances-request" in policy) is spot


# -- who is let in, in the forms that AWS documents: no emulated account evaluates these ------------------------------

FOR_OUR_TASKS = {
    "StringEquals": {"aws:SourceAccount": ACCOUNT},
    "ArnLike": {"aws:SourceArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:*"},
}
"""As ECS's guide binds the roles of its tasks; those of EC2 and of Lambda leave such conditions out."""


def trusting(service: str) -> Mapping[str, Any]:
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}


TRUST: Mapping[str, Mapping[str, Any]] = {
    "service-task": {**trusting("ecs-tasks.amazonaws.com"), "Condition": FOR_OUR_TASKS},
    "service-execution": {**trusting("ecs-tasks.amazonaws.com"), "Condition": FOR_OUR_TASKS},
    "night-role": trusting("lambda.amazonaws.com"),
    "janitor-role": trusting("lambda.amazonaws.com"),
    "diogenes-desk-bake": trusting("ec2.amazonaws.com"),
    "diogenes-desk-tidy": trusting("imagebuilder.amazonaws.com"),
}
NODE_TRUST = trusting("ec2.amazonaws.com")

RESOURCE_POLICIES = {"ecr/repositoryPolicy:RepositoryPolicy", "s3/bucketPolicy:BucketPolicy"}
NO_IAM = {
    "cloudfront/responseHeadersPolicy:ResponseHeadersPolicy",
    "ecr/lifecyclePolicy:LifecyclePolicy",
    "imagebuilder/lifecyclePolicy:LifecyclePolicy",
}
"""Rules that let nobody in; what deletes images does so by a role of its own."""

MANAGED = {
    "diogenes-desk-bake": {"EC2InstanceProfileForImageBuilder", "AmazonSSMManagedInstanceCore"},
    "diogenes-desk-tidy": {"service-role/EC2ImageBuilderLifecycleExecutionPolicy"},
}
"""AWS's own policies, which its guide to Image Builder names for these roles; no other role has one."""


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_every_role_is_for_one_service_of_aws(name: str) -> None:
    for role in configured(name).registrations.of("iam/role:Role"):
        assert role.name in TRUST or role.name.endswith("-node")
        assert statements(role.inputs["assumeRolePolicy"]) == [TRUST.get(role.name, NODE_TRUST)]


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_no_resource_has_a_policy_that_is_not_looked_at_here(name: str) -> None:
    found = {each.type.partition(":")[2] for each in configured(name).registrations if each.type.endswith("Policy")}
    assert found - NO_IAM == {*RESOURCE_POLICIES, "iam/rolePolicy:RolePolicy"}
    assert not [each.type for each in configured(name).registrations.of(":VpcEndpoint") if "policy" in each.inputs]


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_only_what_bakes_images_has_policies_of_aws(name: str) -> None:
    registrations = configured(name).registrations
    found: dict[str, set[str]] = {}
    for each in registrations.of("iam/rolePolicyAttachment:RolePolicyAttachment"):
        prefix, _, policy = each.inputs["policyArn"].partition("arn:aws:iam::aws:policy/")
        assert prefix == ""
        found.setdefault(each.inputs["role"], set()).add(policy)
    assert found == (MANAGED if name == "a baked image" else {})
    assert not [role.name for role in registrations.of("iam/role:Role") if role.inputs.get("managedPolicyArns")]


def test_images_are_deleted_by_the_role_for_it_and_only_those_that_are_ours() -> None:
    registrations = configured("a baked image").registrations
    policy = registrations.one("imagebuilder/lifecyclePolicy:LifecyclePolicy").inputs
    assert policy["executionRole"] == registrations.one("iam/role:Role", "diogenes-desk-tidy").state["arn"]
    assert policy["resourceType"] == "AMI_IMAGE"
    assert policy["resourceSelection"]["tagMap"][schema.TAG] == "diogenes-desk"
    builders = [each for each in registrations.of("iam/instanceProfile:InstanceProfile") if each.name in MANAGED]
    assert [(each.name, each.inputs["role"]) for each in builders] == [("diogenes-desk-bake", "diogenes-desk-bake")]


def test_lambda_pulls_the_image_for_our_functions_only() -> None:
    (statement,) = statements(configured("as published").registrations.one(":RepositoryPolicy").inputs["policy"])
    functions = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:diogenes-desk-*"
    assert statement == {
        "Sid": "LambdaPullsImage",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Condition": {"ArnLike": {"aws:SourceArn": functions}},
    }


def test_nobody_reaches_a_bucket_without_encryption_and_cloudfront_alone_is_let_in() -> None:
    registrations = configured("as published").registrations
    found = {each.name: each for each in registrations.of(":BucketPolicy")}
    assert found.keys() == {"diogenes-desk-nodes", "web-site"}
    for policy in found.values():
        arn = f"arn:aws:s3:::{policy.inputs['bucket']}"
        (denied,) = [each for each in statements(policy.inputs["policy"]) if each["Effect"] == "Deny"]
        assert {key: value for key, value in denied.items() if key != "Sid"} == {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    allowed = {
        name: [each for each in statements(policy.inputs["policy"]) if each["Effect"] == "Allow"]
        for name, policy in found.items()
    }
    distribution = registrations.one(":Distribution").state["arn"]
    site = {
        "Sid": "ReadByOurDistribution",
        "Effect": "Allow",
        "Principal": {"Service": "cloudfront.amazonaws.com"},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{found['web-site'].inputs['bucket']}/*",
        "Condition": {"StringEquals": {"AWS:SourceArn": distribution}},
    }
    assert allowed == {"diogenes-desk-nodes": [], "web-site": [site]}


def test_a_function_is_called_by_its_own_target_group_or_rule_alone() -> None:
    registrations = configured("as published").registrations
    by = {
        "night": ("elasticloadbalancing.amazonaws.com", registrations.one("lb/targetGroup:TargetGroup", "front-night")),
        "janitor": ("events.amazonaws.com", registrations.one(":EventRule", "janitor")),
        "janitor-task-ended": ("events.amazonaws.com", registrations.one(":EventRule", "janitor-task-ended")),
    }
    permissions = registrations.of("lambda/permission:Permission")
    assert {each.name for each in permissions} == by.keys()
    for each in permissions:
        service, source = by[each.name]
        assert each.inputs["principal"] == service
        assert each.inputs["action"] == "lambda:InvokeFunction"
        assert each.inputs["sourceArn"] == source.state["arn"]


# -- the rest ------------------------------------------------------------------------------------------------------


def test_a_log_group_is_written_by_its_own_role_and_made_by_none() -> None:
    registrations = configured("as published").registrations
    for role, group in (
        ("service-execution", "/diogenes-desk/control-plane"),
        ("night-role", "/aws/lambda/diogenes-desk-night"),
        ("janitor-role", "/aws/lambda/diogenes-desk-janitor"),
    ):
        policy = of_roles(registrations)[role]
        writing = [one for one in statements(policy) if "logs:PutLogEvents" in one["Action"]]
        assert [one["Resource"] for one in writing] == [[f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*"]]
        assert "logs:CreateLogGroup" not in actions(policy)


def test_policies_fit_into_a_role() -> None:
    """AWS allows 10,240 characters of inline policy, white space not counted."""
    for policy in of_roles(configured("on Spot, else On-Demand").registrations).values():
        assert len("".join(policy.split())) <= 10_240
