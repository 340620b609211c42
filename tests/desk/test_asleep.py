"""Everything sleeps, somebody asks, everything sleeps again: told with the real SDKs, through a load balancer.

Here the program's own roles, listener and service are at work, the night watch runs in Lambda's own runtime client, and
the control plane comes and goes as ECS would have it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio

from control_plane.schema import CONTROL
from control_plane.settings import Settings
from rehearsal import alb
from tests.clients.node import ask_node, node_missing
from tests.desk.sleep import ENVIRONMENT, FRONT, asleep, faces_night, front_state
from tests.desk.story import NAMESPACE, Answer, Story, opened, owner, until

pytestmark = [pytest.mark.desk, pytest.mark.timeout(240)]

MODELS = SDKS, SCARCE, NIGHTLY, LATE, DEPLOYED = (
    "asleep/sdks",
    "asleep/scarce",
    "asleep/nightly",
    "asleep/late",
    "asleep/deployed",
)
NO_NODE = node_missing()
WAKE_LIMIT_S = 60.0
MAX_HOLDS = int(ENVIRONMENT["DIOGENES_MAX_HOLDS"])
NIGHT_LIMIT_BYTES = 256 * 1024**2  # half of what the function has


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    # Idle for longer than a wake takes: a node that is ready before its client was sent on must still be there then.
    models = [{"name": name, "idleTimeout": 15 if name == SDKS else 60} for name in MODELS]
    with opened(*models, idle_seconds=None, environment=ENVIRONMENT, front=FRONT) as story:
        yield story


@pytest_asyncio.fixture(autouse=True)
async def _to_sleep(story: Story) -> AsyncIterator[None]:
    """All but the first story are sent to sleep by hand, which is sooner."""
    yield
    for model in MODELS[1:]:
        if story.alive(model):
            await story.scale(model, 0)
    await asleep(story)


async def test_all_stock_clients_are_answered_from_sleep_and_one_start_serves_them_all(story: Story) -> None:
    base_url, key = story.desk.base_url, story.desk.api_key
    asking = [story.ask(SDKS, stream=stream) for stream in (False, True)]
    asking += [story.ask_sync(SDKS, stream=stream) for stream in (False, True)]
    if not NO_NODE:
        asking += [ask_node(base_url, key, SDKS, stream=stream, limit_s=WAKE_LIMIT_S) for stream in (False, True)]
    answers = await asyncio.gather(*asking)
    assert [answer for answer in answers if not answer.whole] == []
    assert len(story.launched(SDKS)) == 1
    (task,) = story.desk.front.service.tasks
    await _counted_inside_alone(story, task.address)
    await asleep(story)
    assert "slots" not in _held(story)


async def _turned_away(story: Story, model: str) -> None:
    """Where as many are held as may be, whoever comes next is told so, and waits for nothing."""
    table, row = CONTROL.full_name(NAMESPACE), {"item": {"S": "holds"}}
    others = [f"{time.time() + WAKE_LIMIT_S:.3f} other-{number}" for number in range(MAX_HOLDS)]
    with owner(story, "dynamodb") as dynamodb:
        dynamodb.put_item(TableName=table, Item={**row, "slots": {"SS": others}})
        async with story.http() as http:
            asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
            told = await http.post("v1/chat/completions", json=asked)
        assert (told.status_code, told.json()["error"]["code"]) == (503, "model_starting")
        assert "as many requests wait for it as can be held" in told.json()["error"]["message"]
        assert 1 <= int(told.headers["retry-after"]) <= 59
        assert len(_held(story)["slots"]) == MAX_HOLDS
        dynamodb.delete_item(TableName=table, Key=row)
    assert front_state(story) != "asleep"


def _held(story: Story) -> Mapping[str, Any]:
    return story.desk.account.row(CONTROL.full_name(NAMESPACE), {"item": {"S": "holds"}}) or {}


async def _counted_inside_alone(story: Story, address: str) -> None:
    """The task tells its metrics to its own network, at a port that the front does not know."""
    async with httpx.AsyncClient(timeout=WAKE_LIMIT_S) as inside, story.http() as outside:
        told = (await inside.get(f"http://{address}:{Settings().metrics_port}/metrics")).raise_for_status().text
        assert f'diogenes_requests_total{{model="{SDKS}",route="/v1/chat/completions",status="2xx"}}' in told
        for path in ("metrics", "v1/metrics", "api/metrics"):
            assert "diogenes_requests" not in (await outside.get(path)).text
        assert (await inside.get(f"http://{address}:{Settings().port}/metrics")).status_code == 401


async def test_reading_and_managing_works_in_sleep_and_wakes_nothing(story: Story) -> None:
    async with story.http() as http:
        assert {model["id"] for model in (await http.get("v1/models")).json()["data"]} == set(MODELS)
        made = (await http.post("api/keys", json={"name": "second"})).raise_for_status().json()
        cluster = (await http.get("api/cluster")).raise_for_status().json()
        assert {model["status"] for model in cluster["models"]} == {"cold"}
    async with story.http(made["key"]) as http:
        assert (await http.delete(f"api/keys/{made['key_id']}")).is_success
    assert (await story.ask(NIGHTLY, key="dio-wrong")).status == 401
    assert (await story.ask("asleep/nobody")).error == "model_not_found"
    assert (story.desk.front.service.tasks, story.desk.instances()) == ([], {})
    assert story.launched(NIGHTLY) == []


async def test_the_night_watch_says_at_once_what_there_is_to_say(story: Story) -> None:
    story.desk.add_fault(refuse="capacity", model=SCARCE, times="always")
    async with asyncio.timeout(30):  # no GPU to be had
        refused = await story.ask(SCARCE)
    assert (refused.error, refused.status) == ("no_gpu_capacity", 503)
    async with story.http() as http:
        asked = {"model": NIGHTLY, "messages": [{"role": "user", "content": "Hello"}]}
        answer = await http.post("v1/chat/completions", json=asked, headers={"x-diogenes-wait": "0"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_starting")
        assert answer.headers["retry-after"]
        answer = await http.post("v1/chat/completions?trace=1", json=asked)
        assert (answer.status_code, answer.headers["location"]) == (307, "/v1/chat/completions?trace=1")
        assert 0 < story.desk.front.night_watch.resident_bytes < NIGHT_LIMIT_BYTES
        assert "curl: -L" in answer.json()["error"]["message"]


async def test_a_body_is_too_large_for_the_night_watch_only_and_wakes_nothing(story: Story) -> None:
    """It does not get that far: its client is told by the load balancer, without a word of ours."""
    prompt, before = " " * alb.LIMIT_BYTES, story.launched(LATE)
    assert (front_state(story), story.desk.front.service.tasks) == ("asleep", [])
    async with story.http() as http:
        largest = await http.post("v1/chat/completions", content=b" " * alb.LIMIT_BYTES)
        assert (largest.status_code, largest.json()["error"]["code"]) == (400, "invalid_json")
        large = await http.post(
            "v1/chat/completions", json={"model": LATE, "messages": [{"role": "user", "content": prompt}]}
        )
        assert (large.status_code, large.text) == (413, alb.TOO_LARGE)
    told = await story.ask(LATE, prompt)
    assert (told.status, told.error) == (413, "APIStatusError")
    assert (front_state(story), story.desk.front.service.tasks, story.launched(LATE)) == ("asleep", [], before)
    await _turned_away(story, LATE)  # as long as all sleeps
    assert len(story.launched(LATE)) == len(before) + 1
    await story.scale(LATE, 1)  # as README's Limits say
    await until(lambda: not faces_night(story), "the control plane answers", WAKE_LIMIT_S)
    await asyncio.sleep(FRONT.propagation_s)
    assert (await story.ask(LATE, prompt)).whole


async def test_who_comes_while_it_falls_asleep_is_served_or_wakes_it_again(story: Story) -> None:
    assert (await story.ask(LATE)).whole
    await story.scale(LATE, 0)
    await until(lambda: front_state(story) == "falling-asleep", "the control plane falls asleep", 60.0)
    asking = []
    for _ in range(10):  # through the turn, the wait for late ones, the order to end, and the end
        asking.append(asyncio.create_task(story.ask(LATE, stream=True)))
        await asyncio.sleep(0.7)
    answers = await asyncio.gather(*asking)
    assert [answer for answer in answers if not answer.whole] == []


async def test_a_deployment_serves_what_is_new_lets_streams_end_and_cuts_the_longest_cleanly(
    story: Story,
) -> None:
    begun = [asyncio.Event(), asyncio.Event()]
    short, long = (
        asyncio.create_task(story.ask(DEPLOYED, f"More [[tokens={tokens} gap=0.05]]", stream=True, begun=event))
        for tokens, event in zip((120, 3000), begun, strict=True)
    )
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in begun)), WAKE_LIMIT_S)
    service = story.desk.front.service
    (old,) = service.tasks
    service.replace()
    asking = list[asyncio.Task[Answer]]()
    while not old.ending:  # until it is told to end, which ECS does last: nobody is open there any more
        asking.append(asyncio.create_task(story.ask(DEPLOYED, stream=len(asking) % 2 == 0)))
        await asyncio.sleep(0.7)
    assert (await short).whole
    cut = await long
    assert (cut.error, bool(cut.text)) == ("restarting", True)
    answers = await asyncio.gather(*asking, story.ask(DEPLOYED))
    assert [answer for answer in answers if not answer.whole] == []
    await until(lambda: old not in service.tasks, "the old one is gone", WAKE_LIMIT_S)
    (new,) = service.tasks
    assert new is not old
    assert len(story.launched(DEPLOYED)) == 1


async def test_a_wrong_key_never_wakes_even_through_a_redirect(story: Story) -> None:
    async with httpx.AsyncClient(base_url=story.desk.base_url, follow_redirects=True) as http:
        answer = await http.post("/chat/completions", json={"model": SDKS, "messages": []})
    assert answer.status_code == 401
    assert story.desk.front.service.tasks == []
