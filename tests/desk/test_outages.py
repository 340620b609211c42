"""AWS itself is unwell: what streams goes on, what begins is answered when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.desk.story import Story, opened

pytestmark = pytest.mark.desk

WARM, COLD, BLIND = "outage/warm", "outage/cold", "outage/blind"
LONG = "Tell me more [[tokens=60 gap=0.05]]"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with opened(WARM, COLD, BLIND, idle_seconds=3) as story:
        yield story


async def test_a_throttled_table_harms_nobody_who_is_being_answered(story: Story) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(story.ask(WARM, LONG, stream=True, begun=begun))
    await asyncio.wait_for(begun.wait(), 30)
    node = await story.node(WARM)
    for operation in ("UpdateItem", "Scan"):
        story.desk.add_fault(throttle=f"dynamodb:{operation}", times=15)
    answers = await asyncio.gather(story.ask(WARM), story.ask_sync(WARM, stream=True), streaming)
    assert [answer for answer in answers if not answer.whole] == []
    assert await story.node(WARM) == node


async def test_a_model_starts_through_a_throttled_table(story: Story) -> None:
    for operation in ("PutItem", "UpdateItem", "Scan"):
        story.desk.add_fault(throttle=f"dynamodb:{operation}", times=8)
    answers = await asyncio.gather(story.ask(COLD), story.ask(COLD, stream=True))
    assert [answer for answer in answers if not answer.whole] == []
    assert len(story.launched(COLD)) == 1


async def test_a_key_that_cannot_be_looked_up_is_a_503_that_the_client_survives(story: Story) -> None:
    async with story.http() as http:
        key = (await http.post("api/keys", json={"name": "fresh"})).json()["key"]
    story.desk.add_fault(fail="dynamodb:GetItem", times=4)
    answer = await story.ask(WARM, key=key)
    assert answer.whole, answer


async def test_a_table_that_stays_away_is_an_error_and_no_hang(story: Story) -> None:
    async with story.http() as http:
        key = (await http.post("api/keys", json={"name": "unlucky"})).json()["key"]
    story.desk.add_fault(fail="dynamodb:GetItem", times=6)
    async with story.http(key) as http:
        body = {"model": WARM, "messages": [{"role": "user", "content": "Hello"}]}
        refused = await http.post("v1/chat/completions", json=body)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"]
    assert (await story.ask(WARM)).whole, "a key that was seen lately needs no table"


async def test_a_cloud_that_answers_500_delays_a_start_and_an_end_and_loses_neither(story: Story) -> None:
    for operation in ("LaunchInstances", "DescribeAutoScalingGroups", "TerminateInstanceInAutoScalingGroup"):
        story.desk.add_fault(fail=f"autoscaling:{operation}", times=4)
    answer = await story.ask(BLIND)
    assert answer.whole, answer
    assert len(story.launched(BLIND)) == 1
    await story.gone(BLIND)
