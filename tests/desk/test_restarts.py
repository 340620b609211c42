"""The control plane dies, or is told to stop, and comes back: the tables are all that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.desk.story import BOUND_S, Story, opened

pytestmark = pytest.mark.desk

STARTING, IDLE, STREAM, LAST_STREAM, WAITING = (
    "killed/starting",
    "killed/idle",
    "killed/stream",
    "stopped/stream",
    "stopped/waiting",
)
LONG = "Tell me more [[tokens=60 gap=0.05]]"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    # Held silently for long, so that who waits for a start has no 200 yet and can be told a status.
    environment = {"DIOGENES_SILENT_HOLD_S": "20", "DIOGENES_CANCEL_GRACE_S": "6", "DIOGENES_STOP_TIMEOUT_S": "110"}
    models = (STARTING, IDLE, STREAM, LAST_STREAM, WAITING)
    with opened(*models, idle_seconds=4, load_seconds=2.0, environment=environment) as story:
        yield story


async def kill_and_start(story: Story) -> None:
    await asyncio.to_thread(story.desk.kill_control_plane)
    await asyncio.to_thread(story.desk.start_control_plane)


async def test_a_start_goes_on_when_the_control_plane_is_killed_over_it(story: Story) -> None:
    waiting = [asyncio.create_task(story.ask(STARTING, stream=stream)) for stream in (True, False)]
    first = await story.loading(STARTING)
    await kill_and_start(story)
    # Two retries are over in two seconds: who comes back in time is answered, who does not has a plain error.
    ends = {answer.error for answer in await asyncio.gather(*waiting)}
    assert ends <= {"", "APIConnectionError"}
    again = await story.ask(STARTING)
    assert again.whole, again
    assert await story.node(STARTING) == first
    assert list(story.launched(STARTING)) == [first]


async def test_a_ready_node_is_found_again_and_still_goes_when_idle(story: Story) -> None:
    assert (await story.ask(IDLE)).whole
    first = await story.node(IDLE)
    await kill_and_start(story)
    answer = await story.ask(IDLE)
    assert answer.whole, answer
    assert answer.node == first
    await story.gone(IDLE)
    assert story.row(first)["reason"] == "idle"
    assert list(story.launched(IDLE)) == [first]


async def test_a_stream_dies_with_the_control_plane_and_the_node_does_not(story: Story) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(story.ask(STREAM, LONG, stream=True, begun=begun))
    await asyncio.wait_for(begun.wait(), BOUND_S)
    first = await story.node(STREAM)
    await kill_and_start(story)
    answer = await streaming
    assert answer.text
    assert answer.error
    again = await story.ask(STREAM)
    assert again.whole, again
    assert again.node == first


async def test_a_stop_lets_a_stream_come_to_its_end(story: Story) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(story.ask(LAST_STREAM, LONG, stream=True, begun=begun))
    await asyncio.wait_for(begun.wait(), BOUND_S)
    await asyncio.to_thread(story.desk.stop_control_plane)
    answer = await streaming
    assert answer.whole, answer
    assert len(answer.text.split()) == 60
    await asyncio.to_thread(story.desk.start_control_plane)


async def test_a_stop_lets_those_who_wait_for_a_model_have_their_answer(story: Story) -> None:
    waiting = asyncio.create_task(story.ask(WAITING, stream=True))
    await story.loading(WAITING)
    await asyncio.to_thread(story.desk.stop_control_plane)
    answer = await waiting  # nobody else was there to answer
    assert answer.whole, answer
    assert len(story.launched(WAITING)) == 1
    await asyncio.to_thread(story.desk.start_control_plane)
