"""What a node finds in its account: a group that it is the one instance of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

REGION = "eu-west-1"


def one_instance_group(endpoint: str, scaling: AutoScalingClient) -> str:
    """Makes it; answers the instance's id."""
    ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=endpoint)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ec2.create_launch_template(
        LaunchTemplateName="template", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"}
    )
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="group-1",
        LaunchTemplate={"LaunchTemplateName": "template"},
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=1,
        AvailabilityZones=[f"{REGION}a"],
    )
    (group,) = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    return str(group["Instances"][0]["InstanceId"])
