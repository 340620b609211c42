"""Networks, as far as instances and load balancers name them; packets go over the loopback."""

from __future__ import annotations

from typing import Any

from rehearsal.resources.given import Api, Given, Made


def vpc(given: Given, api: Api) -> Made:
    given.pass_over("enableDnsHostnames", "enableDnsSupport")
    made = api.call("ec2", "CreateVpc", cidrBlock=given.need("cidrBlock"), **_tagged("vpc", given))["Vpc"]
    return Made(made["VpcId"], {"arn": _arn(api, f"vpc/{made['VpcId']}")})


def subnet(given: Given, api: Api) -> Made:
    given.pass_over("mapPublicIpOnLaunch")
    tags = _tagged("subnet", given)
    made = api.call("ec2", "CreateSubnet", **given.rest(), **tags)["Subnet"]
    return Made(made["SubnetId"], {"arn": made["SubnetArn"]})


def security_group(given: Given, api: Api) -> Made:
    name = given.need("name")
    tags = _tagged("security-group", given)
    made = api.call("ec2", "CreateSecurityGroup", groupName=name, **given.rest(), **tags)
    return Made(made["GroupId"], {"arn": _arn(api, f"security-group/{made['GroupId']}")})


def launch_template(given: Given, api: Api) -> Made:
    given.pass_over("updateDefaultVersion")  # the first version is the default
    name = given.need("name")
    tags = _tagged("launch-template", given)
    made = api.call("ec2", "CreateLaunchTemplate", launchTemplateName=name, launchTemplateData=given.rest(), **tags)
    template = made["LaunchTemplate"]
    id_ = template["LaunchTemplateId"]
    return Made(id_, {"arn": _arn(api, f"launch-template/{id_}"), "latestVersion": 1, "defaultVersion": 1})


def _tagged(kind: str, given: Given) -> dict[str, Any]:
    tags = given.take("tags")
    return {"tagSpecifications": [{"resourceType": kind, "tags": tags}]} if tags else {}


def _arn(api: Api, resource: str) -> str:
    return f"arn:aws:ec2:{api.region}:{api.account}:{resource}"
