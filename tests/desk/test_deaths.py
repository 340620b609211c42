"""Engine, agent or machine die by SIGKILL, at every moment of a node's life: three models at a time, one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.desk.story import BOUND_S, Answer, Story, opened

pytestmark = pytest.mark.desk

VICTIMS = ("engine", "agent", "instance")
LONG = "Tell me more [[tokens=60 gap=0.05]]"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    moments = ("loading", "idle", "stream", "whole")
    with opened(*(f"{moment}/{victim}" for victim in VICTIMS for moment in moments), load_seconds=1.0) as story:
        yield story


async def test_who_waits_for_a_start_that_dies_is_answered_by_the_next(story: Story) -> None:
    async def tell(victim: str) -> None:
        model = f"loading/{victim}"
        waiting = [asyncio.create_task(story.ask(model, stream=stream)) for stream in (True, False)]
        first = await story.loading(model)
        kill(story, victim, first)
        assert_whole(*await asyncio.gather(*waiting))
        assert len(story.launched(model)) == 2
        await assert_it_works_again(story, model, after=first)

    await asyncio.gather(*map(tell, VICTIMS))


async def test_who_asks_a_node_that_just_died_is_answered_by_the_next(story: Story) -> None:
    async def tell(victim: str) -> None:
        model = f"idle/{victim}"
        assert_whole(await story.ask(model))
        first = await story.node(model)
        kill(story, victim, first)
        assert_whole(*await asyncio.gather(story.ask(model, stream=True), story.ask(model)))
        assert await story.node(model) != first
        assert len(story.launched(model)) == 2

    await asyncio.gather(*map(tell, VICTIMS))


async def test_a_stream_that_is_cut_ends_with_a_typed_error(story: Story) -> None:
    async def tell(victim: str) -> None:
        model = f"stream/{victim}"
        begun = asyncio.Event()
        streaming = asyncio.create_task(story.ask(model, LONG, stream=True, begun=begun))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        first = await story.node(model)
        kill(story, victim, first)
        answer = await streaming
        assert answer.error == "engine_lost", answer
        assert answer.text
        await assert_it_works_again(story, model, after=first)

    await asyncio.gather(*map(tell, VICTIMS))


async def test_an_answer_of_which_nothing_was_sent_is_given_by_the_next_node(story: Story) -> None:
    async def tell(victim: str) -> None:
        model = f"whole/{victim}"
        asking = asyncio.create_task(story.ask(model, LONG))
        first = await story.node(model)
        await story.generating(first)
        kill(story, victim, first)
        assert_whole(await asking)
        assert len(story.launched(model)) == 2
        await assert_it_works_again(story, model, after=first)

    await asyncio.gather(*map(tell, VICTIMS))


def kill(story: Story, victim: str, instance_id: str) -> None:
    desk = story.desk
    {"engine": desk.kill_engine, "agent": desk.kill_agent, "instance": desk.kill_instance}[victim](instance_id)


def assert_whole(*answers: Answer) -> None:
    assert [answer for answer in answers if not answer.whole] == []


async def assert_it_works_again(story: Story, model: str, *, after: str) -> None:
    assert_whole(await story.ask(model))
    assert await story.node(model) != after
