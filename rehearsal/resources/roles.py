"""IAM: roles, their policies, instance profiles."""

from __future__ import annotations

from rehearsal.resources.given import Api, Given, Made


def role(given: Given, api: Api) -> Made:
    name, trust = given.need("name"), given.need("assumeRolePolicy")
    made = api.call("iam", "CreateRole", roleName=name, assumeRolePolicyDocument=trust, **given.rest())["Role"]
    return Made(name, {"arn": made["Arn"], "uniqueId": made["RoleId"]})


def role_policy(given: Given, api: Api) -> Made:
    """The policy that is written into a role."""
    role_name, name = given.need("role"), given.need("name")
    api.call("iam", "PutRolePolicy", roleName=role_name, policyName=name, policyDocument=given.need("policy"))
    return Made(f"{role_name}:{name}")


def policy(given: Given, api: Api) -> Made:
    """A policy that stands by itself, for attachments."""
    name, document = given.need("name"), given.need("policy")
    made = api.call("iam", "CreatePolicy", policyName=name, policyDocument=document, **given.rest())["Policy"]
    return Made(made["Arn"], {"arn": made["Arn"]})


def attachment(given: Given, api: Api) -> Made:
    role_name, arn = given.need("role"), given.need("policyArn")
    api.call("iam", "AttachRolePolicy", roleName=role_name, policyArn=arn)
    return Made(f"{role_name}/{arn}")


def instance_profile(given: Given, api: Api) -> Made:
    name, role_name = given.need("name"), given.need("role")
    made = api.call("iam", "CreateInstanceProfile", instanceProfileName=name, **given.rest())["InstanceProfile"]
    api.call("iam", "AddRoleToInstanceProfile", instanceProfileName=name, roleName=role_name)
    return Made(name, {"arn": made["Arn"]})
