"""The load balancer with its listener and target groups, and the service of ECS behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rehearsal.resources.given import Api, Given, Made, Unmade

_ELB = "elbv2"

_LOAD_BALANCER_ATTRIBUTES = {
    "idleTimeout": "idle_timeout.timeout_seconds",
    "dropInvalidHeaderFields": "routing.http.drop_invalid_header_fields.enabled",
    "clientKeepAlive": "client_keep_alive.seconds",
}
_TARGET_GROUP_ATTRIBUTES = {
    "deregistrationDelay": "deregistration_delay.timeout_seconds",
    "lambdaMultiValueHeadersEnabled": "lambda.multi_value_headers.enabled",
}
_HEALTH_CHECK = {
    "unhealthyThreshold": "unhealthyThresholdCount",
    "healthyThreshold": "healthyThresholdCount",
    "timeout": "healthCheckTimeoutSeconds",
    "interval": "healthCheckIntervalSeconds",
    "path": "healthCheckPath",
    "port": "healthCheckPort",
    "protocol": "healthCheckProtocol",
    "enabled": "healthCheckEnabled",
}


def load_balancer(given: Given, api: Api) -> Made:
    attributes = _attributes(given, _LOAD_BALANCER_ATTRIBUTES)
    made = api.call(
        _ELB,
        "CreateLoadBalancer",
        name=given.need("name"),
        scheme="internal" if given.take("internal", False) else "internet-facing",
        type=given.take("loadBalancerType", "application"),
        **given.rest(),
    )["LoadBalancers"][0]
    arn = made["LoadBalancerArn"]
    if attributes:
        api.call(_ELB, "ModifyLoadBalancerAttributes", loadBalancerArn=arn, attributes=attributes)
    outputs = {"arn": arn, "dnsName": made["DNSName"], "zoneId": made["CanonicalHostedZoneId"]}
    return Made(arn, {**outputs, "arnSuffix": arn.rpartition(":loadbalancer/")[2]})


def target_group(given: Given, api: Api) -> Made:
    attributes = _attributes(given, _TARGET_GROUP_ATTRIBUTES)
    check = dict(given.take("healthCheck", {}))
    matcher = {"httpCode": check.pop("matcher")} if "matcher" in check else None
    if foreign := check.keys() - _HEALTH_CHECK.keys():
        raise Unmade(f"{given.kind} {given.name}: healthCheck.{', '.join(sorted(foreign))}: not understood")
    checked = {_HEALTH_CHECK[key]: value for key, value in check.items()}
    made = api.call(_ELB, "CreateTargetGroup", matcher=matcher, **checked, **given.rest())["TargetGroups"][0]
    arn = made["TargetGroupArn"]
    if attributes:
        api.call(_ELB, "ModifyTargetGroupAttributes", targetGroupArn=arn, attributes=attributes)
    return Made(arn, {"arn": arn, "arnSuffix": arn.rpartition(":")[2]})


def attachment(given: Given, api: Api) -> Made:
    arn, target = given.need("targetGroupArn"), given.need("targetId")
    api.call(_ELB, "RegisterTargets", targetGroupArn=arn, targets=[{"id": target, **given.rest()}])
    return Made(f"{arn}-{target}")


def listener(given: Given, api: Api) -> Made:
    actions = [_action(action) for action in given.need("defaultActions")]
    certificate = given.take("certificateArn")
    made = api.call(
        _ELB,
        "CreateListener",
        defaultActions=actions,
        certificates=[{"certificateArn": certificate}] if certificate else None,
        **given.rest(),
    )["Listeners"][0]
    return Made(made["ListenerArn"], {"arn": made["ListenerArn"]})


def cluster(given: Given, api: Api) -> Made:
    made = api.call("ecs", "CreateCluster", clusterName=given.need("name"), **given.rest())["cluster"]
    return Made(made["clusterArn"], {"arn": made["clusterArn"]})


def task_definition(given: Given, api: Api) -> Made:
    containers = json.loads(given.need("containerDefinitions"))
    made = api.call("ecs", "RegisterTaskDefinition", containerDefinitions=containers, **given.rest())["taskDefinition"]
    arn = made["taskDefinitionArn"]
    return Made(
        made["family"], {"arn": arn, "arnWithoutRevision": arn.rpartition(":")[0], "revision": made["revision"]}
    )


def service(given: Given, api: Api) -> Made:
    given.pass_over("waitForSteadyState")
    network = given.take("networkConfiguration")
    if network:
        public = {True: "ENABLED", False: "DISABLED"}[network.pop("assignPublicIp", False)]
        network = {"awsvpcConfiguration": {**network, "assignPublicIp": public}}
    deployment = {
        key: given.take(name)
        for key, name in (
            ("minimumHealthyPercent", "deploymentMinimumHealthyPercent"),
            ("maximumPercent", "deploymentMaximumPercent"),
            ("deploymentCircuitBreaker", "deploymentCircuitBreaker"),
        )
    }
    made = api.call(
        "ecs",
        "CreateService",
        serviceName=given.need("name"),
        deploymentConfiguration=deployment,
        networkConfiguration=network,
        **given.rest(),
    )["service"]
    return Made(made["serviceArn"], {"arn": made["serviceArn"]})


def _attributes(given: Given, names: Mapping[str, str]) -> list[dict[str, str]]:
    found = {attribute: given.take(key) for key, attribute in names.items()}
    return [{"key": attribute, "value": _text(value)} for attribute, value in found.items() if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) else str(value)


def _action(action: Mapping[str, Any]) -> Mapping[str, Any]:
    """One default action; forwarding in AWS's names."""
    told = dict(action)
    forward = told.pop("forward", None)
    if forward is None:
        return told
    parts = dict(forward)
    groups = [{"targetGroupArn": group["arn"], "weight": group.get("weight")} for group in parts.pop("targetGroups")]
    sticky = parts.pop("stickiness", None)
    if parts:
        raise Unmade(f"a forward with {', '.join(sorted(parts))}")
    held = {"enabled": sticky["enabled"], "durationSeconds": sticky["duration"]} if sticky else None
    return {**told, "forwardConfig": {"targetGroups": groups, "targetGroupStickinessConfig": held}}
