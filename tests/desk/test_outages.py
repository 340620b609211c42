"""AWS itself is unwell: what streams goes on, what begins is answered when it is over."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.stack import OWNER
from tests.desk.story import BOUND_S, NAMESPACE, Story, opened

pytestmark = pytest.mark.desk

WARM, COLD, BLIND = "outage/warm", "outage/cold", "outage/blind"
HOME = Path(__file__).parents[2]
LONG = "Tell me more [[tokens=60 gap=0.05]]"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with opened(WARM, COLD, BLIND, idle_seconds=3) as story:
        yield story


async def test_a_throttled_table_harms_nobody_who_is_being_answered(story: Story) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(story.ask(WARM, LONG, stream=True, begun=begun))
    await asyncio.wait_for(begun.wait(), BOUND_S)
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
    key = await asyncio.to_thread(key_of, story)
    story.desk.add_fault(fail="dynamodb:Scan", times=40)
    answer = await story.ask(WARM, key=key)
    assert answer.whole, answer


async def test_a_table_that_stays_away_is_an_error_and_no_hang(story: Story) -> None:
    key = await asyncio.to_thread(key_of, story)
    story.desk.add_fault(fail="dynamodb:Scan", times=60)
    async with story.http(key) as http:
        body = {"model": WARM, "messages": [{"role": "user", "content": "Hello"}]}
        refused = await http.post("v1/chat/completions", json=body)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"]
    for _ in range(30):  # keys that nobody could read for ten seconds are believed no longer, until they can be read
        answer = await story.ask(WARM)
        if answer.whole:
            break
        await asyncio.sleep(1)
    assert answer.whole, answer


async def test_a_cloud_that_answers_500_delays_a_start_and_an_end_and_loses_neither(story: Story) -> None:
    for operation in ("LaunchInstances", "DescribeAutoScalingGroups", "TerminateInstanceInAutoScalingGroup"):
        story.desk.add_fault(fail=f"autoscaling:{operation}", times=4)
    answer = await story.ask(BLIND)
    assert answer.whole, answer
    assert len(story.launched(BLIND)) == 1
    await story.gone(BLIND)


def key_of(story: Story) -> str:
    """A key that the control plane has not seen: made as the account's owner makes it, from a shell."""
    owner = {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "owner", "DIOGENES_NAMESPACE": NAMESPACE}
    words = ("-m", "control_plane", "key", "create", "--email", OWNER, "--name", "fresh")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME), **story.desk.aws_env(), **owner}
    made = subprocess.run([sys.executable, *words], env=env, cwd=HOME, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout.strip()
