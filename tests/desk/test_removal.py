"""A model that leaves the configuration: what the AWS provider does to its group, against the real processes."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from control_plane.schema import CONFIGURED, MODELS
from rehearsal.account import REGION
from rehearsal.stack import NAMESPACE
from tests.desk.story import BOUND_S, Story, group_of, opened, until

pytestmark = pytest.mark.desk

REMOVED = "removal/removed"
TOKENS = 120
LONG = f"[[tokens={TOKENS} gap=0.05]]"


def client(story: Story, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=story.desk.aws_url,
        region_name=REGION,
        aws_access_key_id="rehearsal",
        aws_secret_access_key="rehearsal",
    )


def close_group(autoscaling: Any) -> None:
    autoscaling.update_auto_scaling_group(
        AutoScalingGroupName=group_of(REMOVED), MinSize=0, MaxSize=0, DesiredCapacity=0
    )


def listed(autoscaling: Any) -> list[str]:
    told = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group_of(REMOVED)])
    return [instance["LifecycleState"] for group in told["AutoScalingGroups"] for instance in group["Instances"]]


async def test_a_model_is_removed_under_a_stream_that_ends_in_peace() -> None:
    with opened(REMOVED, idle_seconds=600, settles=False) as story:
        autoscaling = client(story, "autoscaling")
        begun = asyncio.Event()
        streaming = asyncio.create_task(story.ask(REMOVED, LONG, stream=True, begun=begun))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        node = await story.node(REMOVED)
        close_group(autoscaling)
        await until(lambda: story.row(node)["status"] == "draining", "the node drains")
        assert story.row(node)["reason"] == "its group takes it down"
        client(story, "dynamodb").delete_item(
            TableName=MODELS.full_name(NAMESPACE), Key={"name": {"S": CONFIGURED + REMOVED}}
        )
        with pytest.raises(ClientError, match="ResourceInUse"):
            autoscaling.delete_auto_scaling_group(AutoScalingGroupName=group_of(REMOVED))
        assert listed(autoscaling) == ["Terminating:Wait"]
        answer = await streaming
        assert answer.whole, answer
        assert len(answer.text.split()) == TOKENS
        await until(lambda: not listed(autoscaling), "the group lets go", limit_s=10)
        await until(lambda: story.row(node)["status"] == "terminated", "the row says that it is gone")
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName=group_of(REMOVED))
        assert (await story.ask(REMOVED)).error == "model_not_found"
        assert story.desk.instances() == {}
        assert len(story.launched(REMOVED)) == 1
