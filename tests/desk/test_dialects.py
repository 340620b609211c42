"""Every inference route, from a cold model, by the client that was made for it."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.desk.story import Story, opened

pytestmark = pytest.mark.desk

CHAT, TEXT, RESPONSES, MESSAGES = "dialect/chat", "dialect/text", "dialect/responses", "dialect/messages"
PROMPT = "How are you?"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with opened(CHAT, TEXT, RESPONSES, MESSAGES) as story:
        yield story


def claude(story: Story) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=story.desk.web_url, api_key=story.desk.api_key)


async def test_messages_are_streamed_to_the_anthropic_client(story: Story) -> None:
    async with (
        claude(story) as client,
        client.messages.stream(model=MESSAGES, max_tokens=64, messages=[{"role": "user", "content": PROMPT}]) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert "stand-in" in text
    assert message.usage.output_tokens > 0


async def test_messages_are_answered_whole_to_the_anthropic_client(story: Story) -> None:
    async with claude(story) as client:
        message = await client.messages.create(
            model=MESSAGES, max_tokens=64, messages=[{"role": "user", "content": PROMPT}]
        )
    assert message.content[0].type == "text"
    assert "stand-in" in message.content[0].text


async def test_an_unknown_model_raises_the_anthropic_clients_own_error(story: Story) -> None:
    async with claude(story) as client:
        with pytest.raises(anthropic.NotFoundError, match="does not exist"):
            await client.messages.create(model="nope", max_tokens=9, messages=[{"role": "user", "content": PROMPT}])


async def test_responses_are_streamed_and_whole(story: Story) -> None:
    async with story.client() as client:
        events = [
            event.type async for event in await client.responses.create(model=RESPONSES, input=PROMPT, stream=True)
        ]
        whole = await client.responses.create(model=RESPONSES, input=PROMPT)
    assert events[-1] == "response.completed"
    assert "stand-in" in whole.output_text


async def test_text_completions_are_streamed_and_whole(story: Story) -> None:
    async with story.client() as client:
        stream = await client.completions.create(model=TEXT, prompt=PROMPT, stream=True)
        streamed = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])
        whole = await client.completions.create(model=TEXT, prompt=PROMPT)
    assert streamed == whole.choices[0].text
    assert whole.usage is not None


async def test_a_client_that_asks_for_usage_gets_it_and_another_does_not(story: Story) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
    async with story.client() as client:
        asked = await client.chat.completions.create(
            model=CHAT, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        silent = await client.chat.completions.create(model=CHAT, messages=messages, stream=True)
        assert [chunk.usage async for chunk in asked][-1] is not None
        assert not [chunk.usage async for chunk in silent if chunk.usage]


async def test_a_route_that_the_model_does_not_offer_is_named(story: Story) -> None:
    async with story.client() as client:
        with pytest.raises(openai.NotFoundError, match=f"{CHAT} does not offer /v1/embeddings") as raised:
            await client.embeddings.create(model=CHAT, input=PROMPT)
    assert raised.value.code == "unsupported_route"


async def test_the_engines_own_refusals_keep_their_class(story: Story) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
    async with story.client() as client:
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            await client.chat.completions.create(model=CHAT, messages=messages, max_tokens=10_000_000)
