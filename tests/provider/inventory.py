"""Everything that exists in an account, asked service by service.

Not network interfaces: moto leaves an instance's own behind, whatever its launch template says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_Ask = tuple[str, str, Callable[[Mapping[str, Any]], list[str]]]


def _each(field: str, key: str) -> Callable[[Mapping[str, Any]], list[str]]:
    return lambda answer: [each[key] for each in answer[field]]


_ASKED: tuple[_Ask, ...] = (
    ("autoscaling", "describe_auto_scaling_groups", _each("AutoScalingGroups", "AutoScalingGroupName")),
    ("cloudfront", "list_distributions", lambda answer: [e["Id"] for e in answer["DistributionList"].get("Items", [])]),
    (
        "cloudfront",
        "list_origin_access_controls",
        lambda answer: [each["Id"] for each in answer["OriginAccessControlList"].get("Items", [])],
    ),
    ("dynamodb", "list_tables", lambda answer: list(answer["TableNames"])),
    ("ec2", "describe_internet_gateways", _each("InternetGateways", "InternetGatewayId")),
    ("ec2", "describe_launch_templates", _each("LaunchTemplates", "LaunchTemplateName")),
    ("ec2", "describe_route_tables", _each("RouteTables", "RouteTableId")),
    ("ec2", "describe_security_groups", _each("SecurityGroups", "GroupId")),
    ("ec2", "describe_subnets", _each("Subnets", "SubnetId")),
    ("ec2", "describe_vpc_endpoints", lambda answer: [e["VpcEndpointId"] for e in answer["VpcEndpoints"] if _is(e)]),
    ("ec2", "describe_vpcs", _each("Vpcs", "VpcId")),
    (
        "ec2",
        "describe_instances",
        lambda answer: [
            each["InstanceId"]
            for reservation in answer["Reservations"]
            for each in reservation["Instances"]
            if each["State"]["Name"] != "terminated"
        ],
    ),
    ("ecr", "describe_repositories", _each("repositories", "repositoryName")),
    ("ecs", "list_task_definitions", lambda answer: list(answer["taskDefinitionArns"])),
    ("elbv2", "describe_load_balancers", _each("LoadBalancers", "LoadBalancerArn")),
    ("elbv2", "describe_target_groups", _each("TargetGroups", "TargetGroupArn")),
    ("events", "list_rules", _each("Rules", "Name")),
    ("iam", "list_instance_profiles", _each("InstanceProfiles", "InstanceProfileName")),
    ("iam", "list_roles", _each("Roles", "RoleName")),
    ("lambda", "list_functions", _each("Functions", "FunctionName")),
    ("logs", "describe_log_groups", _each("logGroups", "logGroupName")),
    ("s3", "list_buckets", _each("Buckets", "Name")),
    ("ssm", "describe_parameters", _each("Parameters", "Name")),
)


def inventory(client: Callable[[str], Any]) -> Mapping[str, frozenset[str]]:
    """Names and ids by what was asked, such as "ec2.describe_vpcs"; what has ended and is only still listed is not."""
    found = {
        f"{service}.{operation}": frozenset(read(getattr(client(service), operation)()))
        for service, operation, read in _ASKED
    }
    return {**found, "ecs.describe_clusters": _clusters(client("ecs"))}


def _clusters(ecs: Any) -> frozenset[str]:
    # AWS does not list a cluster that was deleted; moto does, as inactive.
    known = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
    return frozenset(each["clusterName"] for each in known if each["status"] == "ACTIVE")


def _is(endpoint: Mapping[str, Any]) -> bool:
    return str(endpoint["State"]).lower() != "deleted"
