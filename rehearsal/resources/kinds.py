"""Which types the rehearsal makes, and what it answers for the others: as much as the program reads of them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from rehearsal.resources import front, groups, network, roles, storage, tables, topics
from rehearsal.resources.given import Api, Given, Made, Make

MADE: Mapping[str, Make] = {
    "aws:autoscaling/group:Group": groups.group,
    "aws:dynamodb/table:Table": tables.table,
    "aws:dynamodb/tableItem:TableItem": tables.item,
    "aws:ec2/launchTemplate:LaunchTemplate": network.launch_template,
    "aws:ec2/securityGroup:SecurityGroup": network.security_group,
    "aws:ec2/subnet:Subnet": network.subnet,
    "aws:ec2/vpc:Vpc": network.vpc,
    "aws:ecs/cluster:Cluster": front.cluster,
    "aws:ecs/service:Service": front.service,
    "aws:ecs/taskDefinition:TaskDefinition": front.task_definition,
    "aws:iam/instanceProfile:InstanceProfile": roles.instance_profile,
    "aws:iam/policy:Policy": roles.policy,
    "aws:iam/role:Role": roles.role,
    "aws:iam/rolePolicy:RolePolicy": roles.role_policy,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": roles.attachment,
    "aws:lb/listener:Listener": front.listener,
    "aws:lb/loadBalancer:LoadBalancer": front.load_balancer,
    "aws:lb/targetGroup:TargetGroup": front.target_group,
    "aws:lb/targetGroupAttachment:TargetGroupAttachment": front.attachment,
    "aws:s3/bucket:Bucket": storage.bucket,
    "aws:s3/bucketObjectv2:BucketObjectv2": storage.bucket_object,
    "aws:sns/topic:Topic": topics.topic,
    "aws:sns/topicSubscription:TopicSubscription": topics.subscription,
    "aws:ssm/parameter:Parameter": storage.parameter,
}

_DIGEST = "sha256:" + hashlib.sha256(b"rehearsal").hexdigest()
_IMAGE = "ami-12c6146b"  # nobody looks into it: an emulated machine's system is this one's


def imagined(given: Given, api: Api) -> Made:
    """A resource that nothing of the rehearsal ever touches: a name, an id and an ARN as AWS would give them."""
    inputs = given.rest()
    name = str(inputs.get("name") or f"{given.name}-{uuid.uuid4().hex[:7]}")
    id_ = uuid.uuid4().hex[:17]
    given_arn = {"arn": inputs["arn"]} if "arn" in inputs else {}  # of something else
    return Made(id_, {"name": name, **_computed(given.kind, name, id_=id_, api=api), **given_arn})


def _computed(kind: str, name: str, *, id_: str, api: Api) -> Mapping[str, Any]:
    """What AWS would tell of it."""
    place = f"{api.region}:{api.account}"
    match kind:
        case "aws:lambda/function:Function":
            return {"arn": f"arn:aws:lambda:{place}:function:{name}"}
        case "aws:cloudwatch/logGroup:LogGroup":
            return {"arn": f"arn:aws:logs:{place}:log-group:{name}"}
        case "aws:ecr/repository:Repository":
            address = f"{api.account}.dkr.ecr.{api.region}.amazonaws.com"
            return {"arn": f"arn:aws:ecr:{place}:repository/{name}", "repositoryUrl": f"{address}/{name}"}
        case "aws:cloudfront/distribution:Distribution":
            zone = "Z2FDTNDATAQYW2"  # of every distribution
            arn = f"arn:aws:cloudfront::{api.account}:distribution/{id_}"
            return {"arn": arn, "domainName": f"{id_}.cloudfront.net", "hostedZoneId": zone}
        case "docker-build:index:Image":
            return {"digest": _DIGEST, "ref": f"{name}@{_DIGEST}"}
    service = kind.split(":")[1].partition("/")[0]
    return {"arn": f"arn:aws:{service}:{place}:{name}"}


def answer(function: str, args: Mapping[str, Any], api: Api) -> Mapping[str, Any]:
    """What a function of the provider tells the program. Raises KeyError for one that is not known here."""
    match function:
        case "aws:index/getAvailabilityZones:getAvailabilityZones":
            return _zones(args, api)
        case "aws:index/getCallerIdentity:getCallerIdentity":
            told = api.call("sts", "GetCallerIdentity")
            return {"accountId": told["Account"], "arn": told["Arn"], "userId": told["UserId"]}
        case "aws:ec2/getManagedPrefixList:getManagedPrefixList":
            return {"id": "pl-3b927c52", "name": args["name"]}
        case "aws:ecr/getAuthorizationToken:getAuthorizationToken":
            return {"userName": "AWS", "password": "nobody pulls here", "proxyEndpoint": ""}
        case "aws:secretsmanager/getRandomPassword:getRandomPassword":
            return {"randomPassword": (uuid.uuid4().hex * 8)[: int(args["passwordLength"])]}
        case "aws:ssm/getParameter:getParameter":
            return {"name": args["name"], "type": "String", "insecureValue": _IMAGE, "value": _IMAGE}
    raise KeyError(f"nobody taught the rehearsal what {function} answers")


def _zones(args: Mapping[str, Any], api: Api) -> Mapping[str, Any]:
    """All that the account has, without those that the program excludes; none there has to be opted into."""
    zones = api.call("ec2", "DescribeAvailabilityZones")["AvailabilityZones"]
    kept = [zone for zone in zones if zone["ZoneId"] not in args.get("excludeZoneIds", [])]
    return {
        "names": [zone["ZoneName"] for zone in kept],
        "zoneIds": [zone["ZoneId"] for zone in kept],
    }
