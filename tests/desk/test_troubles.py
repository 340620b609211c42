"""What the cloud refuses or takes back, and what breaks inside a machine: every client gets to know why, and when it is
over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.desk.story import Story, opened, until

pytestmark = pytest.mark.desk

GOES_ON, BOUND = "trouble/spot-goes-on", "trouble/spot-bound"
ZONE, SCARCE, QUOTA, MEMORY, GATED, MUTE, DUMB, TWICE = (
    "trouble/one-zone",
    "trouble/no-zone",
    "trouble/quota",
    "trouble/memory",
    "trouble/gated",
    "trouble/never-boots-once",
    "trouble/never-boots",
    "trouble/lost-reply",
)
MEMORY_S = 8.0  # several clients ask within it, on a slow machine too
ZONES = 3  # of the stack: each is asked once
PROMPT = "Tell me more"
TOKENS = 150
TWO_MINUTES_S = 120.0  # from a Spot notice to the end


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    environment = {"DIOGENES_FAILURE_MEMORY_S": str(MEMORY_S), "DIOGENES_CLAIM_LIMIT_S": "6"}
    spot = [{"name": name, "market": "spot"} for name in (GOES_ON, BOUND)]
    with opened(*spot, ZONE, SCARCE, QUOTA, MEMORY, GATED, MUTE, DUMB, TWICE, environment=environment) as story:
        yield story


async def test_nodes_that_aws_takes_back_and_such_that_never_speak(story: Story) -> None:
    """Three stories at a time, and first of all: each is mostly waiting, the last for AWS's end of a machine."""
    await asyncio.gather(_goes_on(story), _cannot_go_on(story), _never_starts(story))


async def _goes_on(story: Story) -> None:
    """A stream goes on in the replacement of its node."""
    begun = asyncio.Event()
    streaming = asyncio.create_task(
        story.ask(GOES_ON, f"{PROMPT} [[tokens={TOKENS} gap=0.1]]", stream=True, begun=begun)
    )
    await asyncio.wait_for(begun.wait(), story.bound_s)
    first = await story.node(GOES_ON)
    told_at = time.monotonic()
    # What can go on elsewhere leaves the node 20 s before its end: here as soon as its agent has learned of it.
    story.desk.add_fault(spot="interruption", model=GOES_ON, notice_s=22, phase="ready")
    await until(lambda: story.row(first).get("status") in ("draining", "terminated"), "out of routing", story.bound_s)
    beside = await story.ask(GOES_ON, f"{PROMPT} [[tokens={TOKENS} gap=0]]")
    assert beside.whole, beside
    assert beside.node != first
    answer = await streaming
    assert answer.whole, answer
    assert answer.text == beside.text  # not a word lost, said twice, or of another answer
    await until(lambda: first not in [member.id for member in story.alive(GOES_ON)], "gone", TWO_MINUTES_S)
    assert time.monotonic() - told_at < TWO_MINUTES_S
    assert story.row(first)["interruption_at"]
    assert len(story.launched(GOES_ON)) == 2
    assert [line for line in story.told if line.startswith(first) and "terminated" in line]


async def _cannot_go_on(story: Story) -> None:
    """Another engine would begin log probabilities anew: the client is told with a code."""
    body: dict[str, Any] = {
        "model": BOUND,
        "messages": [{"role": "user", "content": f"{PROMPT} [[tokens=2000 gap=0.1]]"}],
    }
    body |= {"stream": True, "logprobs": True}
    events = []
    async with story.http() as http, http.stream("POST", "v1/chat/completions", json=body) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: ")))
                if len(events) == 3:
                    story.desk.add_fault(spot="interruption", model=BOUND, notice_s=15, phase="ready")
    assert events[-1]["error"]["code"] == "spot_interrupted"
    assert sum("error" in event for event in events) == 1


async def _never_starts(story: Story) -> None:
    """An instance whose agent never starts is replaced once, and then given up."""
    story.desk.add_fault(never_boots=True, model=MUTE)
    story.desk.add_fault(never_boots=True, model=DUMB, times=2)
    replaced, given_up, cut = await asyncio.gather(story.ask(MUTE), story.ask(DUMB), story.ask(DUMB, stream=True))
    assert replaced.whole, replaced
    assert given_up.error == cut.error == "node_never_spoke"
    assert (len(story.launched(MUTE)), len(story.launched(DUMB))) == (2, 2)
    await story.gone(DUMB)


def launches(story: Story) -> int:
    return story.desk.calls().get("autoscaling:LaunchInstances", 0)


async def test_a_zone_without_capacity_is_passed_over(story: Story) -> None:
    story.desk.add_fault(refuse="capacity", model=ZONE, zone="us-east-1a")
    answer = await story.ask(ZONE)
    assert answer.whole, answer
    assert story.row(await story.node(ZONE))["zone"] == "us-east-1b"


async def test_no_capacity_anywhere_is_said_at_once_and_tried_again_later(story: Story) -> None:
    story.desk.add_fault(refuse="capacity", model=SCARCE, times=ZONES)
    before = launches(story)
    async with story.http() as http:
        body = {"model": SCARCE, "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"x-stainless-lang": "python"}
        answers = []
        with suppress(httpx.RemoteProtocolError):  # a refusal that comes late cuts the body; the retry hears of it
            answers.append(await http.post("v1/chat/completions", json=body, headers=headers))
        refused_by = time.monotonic()
        retry = {**headers, "x-stainless-retry-count": "1"}
        answers.append(await http.post("v1/chat/completions", json=body, headers=retry))
    for refused in answers:
        assert refused.status_code == 503
        assert refused.headers["x-should-retry"] == "false"
        assert "retry-after" not in refused.headers
        assert refused.json()["error"]["code"] == "no_gpu_capacity"
    for stock in await asyncio.gather(story.ask(SCARCE), story.ask(SCARCE, stream=True)):
        assert (stock.error, stock.status) == ("no_gpu_capacity", 503)
    assert launches(story) == before + ZONES
    await asyncio.sleep(
        max(0.0, refused_by + MEMORY_S + 1 - time.monotonic())
    )  # the memory is the server's, by its clock
    answer = await story.ask(SCARCE)
    assert answer.whole, answer


async def test_a_quota_that_is_too_small_is_named(story: Story) -> None:
    story.desk.add_fault(refuse="quota", model=QUOTA, times=2)
    async with story.http() as http:
        body = {"model": QUOTA, "messages": [{"role": "user", "content": "Hello"}]}
        refused = await http.post("v1/chat/completions", json=body)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "gpu_quota_exceeded"
    assert "L-DB2E81BA" in refused.json()["error"]["message"]
    stock = await story.ask(QUOTA)
    assert (stock.error, stock.status) == ("gpu_quota_exceeded", 403)
    assert (await story.status(QUOTA))["status"] == "failed"


@pytest.mark.parametrize(("model", "code"), [(MEMORY, "out_of_gpu_memory"), (GATED, "gated_model")])
async def test_a_start_that_fails_for_good_tells_every_client_why(story: Story, model: str, code: str) -> None:
    story.desk.add_fault(boot_failure=code, model=model)
    asking = [asker(model, stream=stream) for asker in (story.ask, story.ask_sync) for stream in (True, False)]
    assert {answer.error for answer in await asyncio.gather(*asking)} == {code}
    status = await story.status(model)
    assert status["failure"]["code"] == code
    assert len(story.launched(model)) == 1


@pytest.mark.parametrize("times", [1, 4])  # the SDK's own tries are three: then nobody knows, until the next tick
async def test_a_launch_whose_reply_was_lost_is_one_launch(story: Story, times: int) -> None:
    await story.gone(TWICE)
    before = len(story.launched(TWICE))
    story.desk.add_fault(lose_reply="autoscaling:LaunchInstances", times=times)
    answer = await story.ask(TWICE)
    assert answer.whole, answer
    assert len(story.alive(TWICE)) == 1
    assert len(story.launched(TWICE)) == before + 1
