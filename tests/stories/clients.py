"""The stock clients' two questions."""

from __future__ import annotations

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.stories.world import MODEL

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
ASK = {"model": MODEL, "messages": MESSAGES}


async def answer(client: openai.AsyncOpenAI) -> str:
    """The whole answer at once."""
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    return reply.choices[0].message.content or ""


async def streamed(client: openai.AsyncOpenAI) -> str:
    """The answer token by token."""
    stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
