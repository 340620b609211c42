"""A cold model and the clients that ask it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.desk.story import Story, opened

pytestmark = pytest.mark.desk

STREAMED, PLAIN, CROWD, LATER = "story/streamed", "story/plain", "story/crowd", "story/later"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with opened(STREAMED, PLAIN, CROWD, LATER) as story:
        yield story


async def test_listing_the_models_shows_them_all_and_starts_none(story: Story) -> None:
    async with story.client() as client:
        names = [model.id async for model in client.models.list()]
    assert names == sorted([STREAMED, PLAIN, CROWD, LATER])
    assert story.desk.instances() == {}
    assert "autoscaling:LaunchInstances" not in story.desk.calls()


async def test_a_stream_to_a_cold_model_is_comments_first_and_tokens_then(story: Story) -> None:
    body = {"model": STREAMED, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    arrivals: list[tuple[float, str]] = []
    async with story.http() as http, http.stream("POST", "v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line:
                arrivals.append((time.monotonic(), line))
    lines = [line for _, line in arrivals]
    first_data = next(index for index, line in enumerate(lines) if line.startswith("data: "))
    assert first_data > 0
    assert all(line.startswith(f": diogenes model={STREAMED} phase=") for line in lines[:first_data])
    assert any("elapsed=" in line for line in lines[:first_data])
    assert '"content"' in lines[first_data]
    assert lines[-1] == "data: [DONE]"
    assert not any(line.startswith(("id:", "retry:", "event:")) for line in lines)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stock_client_gets_its_answer_from_a_cold_model(story: Story, stream: bool) -> None:
    await story.gone(PLAIN)
    answer = await story.ask(PLAIN, stream=stream)
    assert answer.whole, answer


async def test_eight_who_ask_at_once_start_one_node(story: Story) -> None:
    before = story.desk.calls().get("autoscaling:LaunchInstances", 0)
    asking = [
        asker(CROWD, f"Question {number}", stream=stream)
        for number, (asker, stream) in enumerate(
            (asker, stream) for asker in (story.ask, story.ask_sync) for stream in (True, False) for _ in range(2)
        )
    ]
    answers = await asyncio.gather(*asking)
    assert [answer for answer in answers if not answer.whole] == []
    assert story.desk.calls()["autoscaling:LaunchInstances"] == before + 1
    assert len(story.launched(CROWD)) == 1


async def test_an_idle_node_goes_and_the_next_question_starts_another(story: Story) -> None:
    assert (await story.ask(LATER)).whole
    first = await story.node(LATER)
    await story.gone(LATER)
    assert story.row(first)["reason"] == "idle"
    answer = await story.ask(LATER)
    assert answer.whole
    assert answer.node != first
    assert len(story.launched(LATER)) == 2


async def test_who_only_looks_does_not_keep_a_node_awake(story: Story) -> None:
    await story.scale(LATER, 1)
    node = await story.node(LATER)
    ready = time.monotonic()
    while story.alive(LATER):
        async with story.client() as client:
            assert [model.id async for model in client.models.list()]
        await story.status(LATER)
        assert time.monotonic() < ready + 20
    assert story.row(node)["reason"] == "idle"
