"""Auto Scaling groups."""

from __future__ import annotations

from rehearsal.resources.given import Api, Given, Made


def group(given: Given, api: Api) -> Made:
    name = given.need("name")
    subnets, suspended = given.need("vpcZoneIdentifiers"), given.take("suspendedProcesses", [])
    hooks = [{"lifecycleHookName": hook.pop("name"), **hook} for hook in given.take("initialLifecycleHooks", [])]
    tags = [{**tag, "resourceId": name, "resourceType": "auto-scaling-group"} for tag in given.take("tags", [])]
    # How Pulumi waits for a group, and how it deletes one.
    given.pass_over("forceDelete", "ignoreFailedScalingActivities", "waitForCapacityTimeout")
    api.call(
        "autoscaling",
        "CreateAutoScalingGroup",
        autoScalingGroupName=name,
        vpcZoneIdentifier=",".join(subnets),
        lifecycleHookSpecificationList=hooks or None,
        tags=tags,
        **given.rest(),
    )
    if suspended:
        api.call("autoscaling", "SuspendProcesses", autoScalingGroupName=name, scalingProcesses=suspended)
    made = api.call("autoscaling", "DescribeAutoScalingGroups", autoScalingGroupNames=[name])["AutoScalingGroups"][0]
    return Made(name, {"arn": made["AutoScalingGroupARN"], "desiredCapacity": made["DesiredCapacity"]})
