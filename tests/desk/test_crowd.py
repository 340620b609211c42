"""More ask while all sleeps than can be held, with the numbers that are delivered: ten executions for both functions of
a new account, and six clients held.

Nobody meets the account's limit, at which the load balancer would say a bare 502, and the web app and the janitor find
an execution at any time. That is so for a crowd that comes over a few seconds: whoever is neither held nor refused yet
takes an execution as well, for the second or so that this takes, and with six held there are four left. More than four
newcomers at the very same moment would meet the limit, here as on AWS, and try again by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import httpx
import openai
import pytest

from control_plane.quotas import NEW_EXECUTIONS
from control_plane.schema import CONTROL
from control_plane.settings import Settings
from tests.desk.sleep import DELIVERED, QUICK_TO_SLEEP, front_state, no_capacity
from tests.desk.story import NAMESPACE, Story, opened, until

pytestmark = [pytest.mark.desk, pytest.mark.timeout(240)]

MODEL = "crowd/model"
CROWD = 12
UNDECIDED = 3  # that may be neither held nor refused yet when the next one comes
HELD = Settings().max_holds


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    # Idle for longer than a wake takes; nobody but the story calls the janitor.
    model = {"name": MODEL, "idleTimeout": 60}
    environment = {**QUICK_TO_SLEEP, "DIOGENES_DRAIN_TIMEOUT_S": "5"}
    front = replace(DELIVERED, janitor_every_s=3600.0)
    with opened(model, idle_seconds=None, environment=environment, front=front, bound_s=100.0) as story:
        yield story


@dataclass
class Client:
    """A stock client with default settings, and every reply on its way."""

    story: Story
    replies: list[httpx.Response] = field(default_factory=list)

    @property
    def statuses(self) -> Sequence[int]:
        """From any thread."""
        return [reply.status_code for reply in self.replies.copy()]

    @property
    def refused(self) -> bool:
        return 503 in self.statuses

    async def ask(self) -> str:
        async with self._stock() as client:
            whole = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
            return whole.choices[0].message.content or ""

    async def models(self) -> Sequence[str]:
        async with self._stock() as client:
            return [model.id for model in (await client.models.list()).data]

    def _stock(self) -> openai.AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [self._saw]})
        return openai.AsyncOpenAI(base_url=self.story.desk.base_url, api_key=self.story.desk.api_key, http_client=http)

    async def _saw(self, reply: httpx.Response) -> None:
        await reply.aread()
        self.replies.append(reply)


async def test_who_meets_the_accounts_limit_has_a_bare_502_and_a_stock_client_tries_again_by_itself(
    story: Story,
) -> None:
    client, executions = Client(story), story.desk.front.executions
    with ExitStack() as others:
        for _ in range(NEW_EXECUTIONS):
            others.enter_context(executions.one("another of the account's functions"))
        asking = asyncio.create_task(client.models())
        await until(lambda: bool(client.replies), "it is told")
    assert await asking == [MODEL]
    bare, *_, last = client.replies
    assert (bare.status_code, bare.content, last.status_code) == (502, b"", 200)
    assert executions.refused == len(client.replies) - 1


async def test_of_a_crowd_as_many_as_may_be_are_held_and_the_others_are_told_when_to_come_back(story: Story) -> None:
    assert (HELD, DELIVERED.executions) == (6, NEW_EXECUTIONS)
    assert "DIOGENES_MAX_HOLDS" not in story.desk.stack.task_environment()
    met = story.desk.front.executions.refused
    clients = [Client(story) for _ in range(CROWD)]
    asking = list[asyncio.Task[str]]()
    with no_capacity(story):  # for as long as the crowd still comes
        for client in clients:
            await until(lambda: len(asking) - decided(story, clients) < UNDECIDED, "there is room for one more")
            asking.append(asyncio.create_task(client.ask()))
        await until(
            lambda: decided(story, clients) == CROWD,
            "each is held or refused",
            seen=lambda: f"{len(holds(story))} are held; replies {[client.statuses for client in clients]}.",
        )
        refused = [client.refused for client in clients]
        assert (refused.count(False), refused.count(True)) == (HELD, CROWD - HELD)
        async with story.http() as http:  # the web app, and the janitor, while as many are held as may be
            listed = (await http.get("v1/models")).raise_for_status().json()
            assert [model["id"] for model in listed["data"]] == [MODEL]
            assert (await asyncio.to_thread(story.desk.front.janitor.invoke, {}))["state"] == "waking"
        assert len(holds(story)) == HELD
    for client, asked in zip(clients, asking, strict=True):
        if client.refused:
            asked.cancel()  # it would pause for a minute
            told_to_come_back(next(reply for reply in client.replies if reply.status_code == 503))
        else:
            assert await asked
            assert client.statuses[-2:] == [307, 200]
    await asyncio.wait(asking)
    again = [Client(story) for client in clients if client.refused]
    async with asyncio.timeout(story.bound_s):  # as when their pause is over
        assert all(await asyncio.gather(*(client.ask() for client in again)))
    statuses = [status for client in (*clients, *again) for status in client.statuses]
    assert set(statuses) == {200, 307, 503}  # and no 502, which would be the load balancer's
    assert story.desk.front.executions.refused == met
    assert front_state(story) == "awake"
    assert len(story.launched(MODEL)) == 1
    await story.scale(MODEL, 0)


def told_to_come_back(reply: httpx.Response) -> None:
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_starting")
    assert reply.headers["x-should-retry"] == "true"
    assert 1 <= int(reply.headers["retry-after"]) <= 59


def decided(story: Story, clients: Sequence[Client]) -> int:
    """How many are held, or were refused."""
    return len(holds(story)) + sum(client.refused for client in clients)


def holds(story: Story) -> Sequence[str]:
    """The slots that are taken."""
    row = story.desk.account.row(CONTROL.full_name(NAMESPACE), {"item": {"S": "holds"}}) or {}
    return sorted(row.get("slots", ()))
