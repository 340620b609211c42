"""Which permissions a call needs: the actions, the ARNs and the condition keys that IAM would judge it by.

What a service of AWS asks IAM for is in its service authorization reference; here is what Diogenes calls. Any other
call raises Unjudged. A call about something that does not exist needs nothing: the service itself refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ecs.exceptions import TaskDefinitionNotFoundException

from rehearsal.calls import Call
from rehearsal.groups import market_of, template_of
from rehearsal.iam import Ask, Unjudged

_Context = Mapping[str, Sequence[str]]

_KEYED = {"GetItem": "Key", "UpdateItem": "Key", "DeleteItem": "Key", "PutItem": "Item", "ConditionCheckItem": "Key"}
# Parameters of S3 that do not make another action of a request, as `tagging` and `acl` would.
_PLAIN = {
    *("x-id", "partNumber", "uploadId", "uploads", "part-number-marker", "max-parts", "key-marker", "max-uploads"),
    *("list-type", "prefix", "delimiter", "encoding-type", "max-keys", "continuation-token"),
}
_MADE_AT_LAUNCH = ("fleet", "instance", "network-interface", "volume")
_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "Get": "GetItem"}


def asks_of(call: Call, context: _Context) -> Sequence[Ask]:
    """Every permission that the call needs; ``context`` is what its caller brings. Raises Unjudged."""
    judge = _SERVICES.get(call.service)
    if judge is None:
        raise Unjudged(f"calls to {call.service}")
    return [replace(ask, context={**context, **ask.context}) for ask in judge(call)]


def _arn(call: Call, service: str, resource: str) -> str:
    return f"arn:aws:{service}:{call.region}:{DEFAULT_ACCOUNT_ID}:{resource}"


def _backend(service: str, region: str) -> Any:
    return get_backend(service)[DEFAULT_ACCOUNT_ID][region]  # type: ignore[call-overload]  # names are literals there


# -- DynamoDB ------------------------------------------------------------------------------------------------------


def _dynamodb(call: Call) -> Iterator[Ask]:
    told = call.document
    if call.operation in _KEYED or call.operation in ("Query", "Scan", "DescribeTable"):
        yield _one_table(call, call.operation, told)
    elif call.operation in ("TransactWriteItems", "TransactGetItems"):
        for entry in told["TransactItems"]:
            ((kind, part),) = entry.items()
            yield _one_table(call, _TRANSACTED.get(kind, "ConditionCheckItem"), part)
    elif call.operation in ("BatchGetItem", "BatchWriteItem"):
        for name, part in told["RequestItems"].items():
            yield _table_ask(call, call.operation, name, keys=_batch_keys(call, name, part))
    elif call.operation == "ListTables":
        yield Ask("dynamodb:ListTables")
    else:
        raise Unjudged(call.name)


def _one_table(call: Call, operation: str, told: Mapping[str, Any]) -> Ask:
    name = told["TableName"]
    if operation in _KEYED:
        keys = [_key_text(told[_KEYED[operation]], _hash_key(call, name))]
    elif operation == "Query":
        keys = [_queried(told, _hash_key(call, name))]
    else:
        keys = []
    return _table_ask(call, operation, name, keys=keys, index=told.get("IndexName", ""))


def _table_ask(call: Call, operation: str, name: str, *, keys: Sequence[str], index: str = "") -> Ask:
    arn = name if name.startswith("arn:") else _arn(call, "dynamodb", f"table/{name}")
    resource = f"{arn}/index/{index}" if index else arn
    return Ask(f"dynamodb:{operation}", resource, {"dynamodb:leadingkeys": keys} if keys else {})


def _hash_key(call: Call, table: str) -> str:
    known = _backend("dynamodb", call.region).tables
    name = table.rpartition("/")[2]
    return str(known[name].hash_key_attr) if name in known else ""


def _key_text(item: Mapping[str, Mapping[str, Any]], hash_key: str) -> str:
    return str(next(iter(item.get(hash_key, {"S": ""}).values())))


def _batch_keys(call: Call, table: str, part: Any) -> Sequence[str]:
    hash_key = _hash_key(call, table)
    if isinstance(part, dict):
        return [_key_text(key, hash_key) for key in part["Keys"]]
    items = [next(iter(entry.values())) for entry in part]  # PutRequest or DeleteRequest
    return [_key_text(item.get("Item") or item["Key"], hash_key) for item in items]


def _queried(told: Mapping[str, Any], hash_key: str) -> str:
    """The partition that a query reads."""
    names = {name: text for text, name in told.get("ExpressionAttributeNames", {}).items()}
    spelled = re.escape(names.get(hash_key, hash_key))
    found = re.search(rf"(?<![\w#]){spelled}\s*=\s*(:\w+)", told.get("KeyConditionExpression", ""))
    if found is None:
        raise Unjudged(f"a query whose partition is not found in {told.get('KeyConditionExpression')!r}")
    return str(next(iter(told["ExpressionAttributeValues"][found[1]].values())))


# -- Auto Scaling and EC2 ------------------------------------------------------------------------------------------


def _autoscaling(call: Call) -> Iterator[Ask]:
    if call.operation.startswith("Describe"):
        yield Ask(call.name)
        return
    group = _group(call)
    if group is None:
        return
    yield Ask(call.name, group.arn, tags={tag["Key"]: tag["Value"] for tag in group.tags})
    if call.operation == "LaunchInstances":
        yield from _launch(call, group)


def _launch(call: Call, group: Any) -> Iterator[Ask]:
    """What Auto Scaling's guide asks of who launches, for every kind of resource that the launch touches.

    AWS documents the two actions, and which kinds CreateFleet knows, not which of them it asks about in the name of
    Auto Scaling's caller; of what only the launch template names it says that it does not. Here it is all of them.
    """
    yield Ask("ec2:DescribeLaunchTemplateVersions")
    for kind, taken in _taken(call, group):
        yield Ask("ec2:CreateFleet", _arn(call, "ec2", f"{kind}/{taken.id}"), tags=_tags(taken))
    if image := template_of(group).get("ImageId"):
        own = _backend("ec2", call.region).amis.get(image)  # AWS's own are not there, and bear no tags that we see
        yield Ask("ec2:CreateFleet", f"arn:aws:ec2:{call.region}::image/{image}", tags=_tags(own) if own else {})
    spot = market_of(group) == "spot"
    for kind in (*_MADE_AT_LAUNCH, *(["spot-instances-request"] if spot else [])):
        yield Ask("ec2:CreateFleet", _arn(call, "ec2", f"{kind}/*"), tags={})
    if spot:
        # As in an account that never had Spot. Which it stays: nobody here makes the role.
        service = "spot.amazonaws.com"
        role = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/aws-service-role/{service}/AWSServiceRoleForEC2Spot"
        yield Ask("iam:CreateServiceLinkedRole", role, {"iam:awsservicename": [service]})


def _taken(call: Call, group: Any) -> Iterator[tuple[str, Any]]:
    """What is there already and the launch takes: template, security groups, the subnet of the zone."""
    ec2 = _backend("ec2", call.region)
    yield "launch-template", group.ec2_launch_template
    told = template_of(group)
    if "SecurityGroups" in told:
        raise Unjudged("a launch template that calls security groups by name")
    groups = [*told.get("SecurityGroupIds", [])]
    groups += [each for interface in told.get("NetworkInterfaces", []) for each in interface.get("Groups", [])]
    for found in map(ec2.get_security_group_from_id, groups):
        if found is not None:
            yield "security-group", found
    for subnet in ec2.describe_subnets(subnet_ids=(group.vpc_zone_identifier or "").split(",")):
        zone, wanted = call.params.get("AvailabilityZones.member.1"), call.params.get("SubnetIds.member.1")
        if zone in (None, subnet.availability_zone) and wanted in (None, subnet.id):
            yield "subnet", subnet


def _tags(found: Any) -> Mapping[str, str]:
    return {tag["key"]: tag["value"] for tag in found.get_tags()}


def _group(call: Call) -> Any | None:
    groups = _backend("autoscaling", call.region).autoscaling_groups
    if name := call.params.get("AutoScalingGroupName"):
        return groups.get(name)
    wanted = call.params.get("InstanceId")
    if wanted is None:
        raise Unjudged(f"{call.name} without a group")
    for group in groups.values():
        if any(state.instance_id == wanted for state in group.instance_states):
            return group
    return None


def _ec2(call: Call) -> Iterator[Ask]:
    if call.operation.startswith("Describe"):
        yield Ask(call.name)
    elif call.operation == "TerminateInstances":
        known = {instance.id: instance for instance in _backend("ec2", call.region).all_instances()}
        for wanted in (value for name, value in call.params.items() if name.startswith("InstanceId.")):
            if wanted in known:
                yield Ask(call.name, _arn(call, "ec2", f"instance/{wanted}"), tags=_tags(known[wanted]))
    else:
        raise Unjudged(call.name)


# -- ECS and its load balancer -------------------------------------------------------------------------------------


def _ecs(call: Call) -> Iterator[Ask]:
    told = call.document
    cluster = str(told.get("cluster") or "default").rpartition("/")[2]
    within = {"ecs:cluster": [_arn(call, "ecs", f"cluster/{cluster}")]}
    match call.operation:
        case "UpdateService" | "DescribeServices":
            kind, named = "service", told.get("services") or [told["service"]]
        case "DescribeTasks":
            kind, named = "task", told["tasks"]
        case "ListTasks":
            yield Ask(call.name, context=within)
            return
        case _:
            raise Unjudged(call.name)
    for name in named:
        arn = name if name.startswith("arn:") else _arn(call, "ecs", f"{kind}/{cluster}/{name}")
        yield Ask(call.name, arn, within)
    if "taskDefinition" in told:
        yield from _passed_roles(call, told["taskDefinition"])


def _passed_roles(call: Call, task_definition: str) -> Iterator[Ask]:
    try:
        definition = _backend("ecs", call.region).describe_task_definition(task_definition)
    except TaskDefinitionNotFoundException:
        return
    for attribute in ("task_role_arn", "execution_role_arn"):
        if role := getattr(definition, attribute, None):  # moto has no attribute where there is no role
            yield Ask("iam:PassRole", role, {"iam:passedtoservice": ["ecs-tasks.amazonaws.com"]})


def _load_balancing(call: Call) -> Iterator[Ask]:
    if call.operation.startswith("Describe"):
        yield Ask(call.name)
        return
    named = [call.params[name] for name in ("ListenerArn", "RuleArn", "TargetGroupArn") if name in call.params]
    if not named:
        raise Unjudged(call.name)
    yield Ask(call.name, named[0])


# -- the others ----------------------------------------------------------------------------------------------------


def _sns(call: Call) -> Iterator[Ask]:
    if call.operation != "Publish" or "TopicArn" not in call.params:
        raise Unjudged(call.name)
    yield Ask(call.name, call.params["TopicArn"])


def _ssm(call: Call) -> Iterator[Ask]:
    told = call.document
    if call.operation not in ("GetParameter", "GetParameters", "GetParametersByPath"):
        raise Unjudged(call.name)
    # No kms:Decrypt: the policy of AWS's own key for parameters admits the whole account through SSM.
    for name in told.get("Names") or [told.get("Name") or told["Path"]]:
        yield Ask(call.name, name if name.startswith("arn:") else _arn(call, "ssm", f"parameter/{name.strip('/')}"))


def _s3(call: Call) -> Iterator[Ask]:
    """Buckets by path, as in ``/bucket/key``: by name they would need a name server."""
    bucket, _, key = call.path.lstrip("/").partition("/")
    plain = not call.query.keys() - _PLAIN
    actions = {
        "GET": "GetObject",
        "HEAD": "GetObject",
        "PUT": "PutObject",
        "POST": "PutObject",
        "DELETE": "DeleteObject",
    }
    if "uploadId" in call.query:
        actions |= {"GET": "ListMultipartUploadParts", "DELETE": "AbortMultipartUpload"}
    if not key and call.method == "GET" and plain and "uploads" in call.query:
        yield Ask("s3:ListBucketMultipartUploads", f"arn:aws:s3:::{bucket}")
    elif not key and call.method in ("GET", "HEAD") and plain:
        prefix = {"s3:prefix": [call.query["prefix"]]} if "prefix" in call.query else {}
        yield Ask("s3:ListBucket", f"arn:aws:s3:::{bucket}", prefix)
    elif key and call.method in actions and plain:
        yield Ask(f"s3:{actions[call.method]}", f"arn:aws:s3:::{bucket}/{key}")
    else:
        raise Unjudged(call.name)


def _lambda(call: Call) -> Iterator[Ask]:
    found = re.fullmatch(r"/[\d-]+/functions/([^/]+)/invocations", call.path)
    if found is None:
        raise Unjudged(call.name)
    name = found[1]
    yield Ask("lambda:InvokeFunction", name if name.startswith("arn:") else _arn(call, "lambda", f"function:{name}"))


def _sts(call: Call) -> Iterator[Ask]:
    """Everybody may ask who they are."""
    if call.operation != "GetCallerIdentity":
        raise Unjudged(call.name)
    yield from ()


_SERVICES: Mapping[str, Callable[[Call], Iterator[Ask]]] = {
    "autoscaling": _autoscaling,
    "dynamodb": _dynamodb,
    "ec2": _ec2,
    "ecs": _ecs,
    "elasticloadbalancing": _load_balancing,
    "lambda": _lambda,
    "s3": _s3,
    "sns": _sns,
    "ssm": _ssm,
    "sts": _sts,
}
