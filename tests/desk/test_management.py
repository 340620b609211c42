"""The hand on the switch: what the web app does, against the whole of Diogenes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from control_plane.schema import USAGE
from gpu_node.protocol import from_attributes
from rehearsal.account import REGION
from rehearsal.stack import OWNER
from tests.desk.story import BOUND_S, NAMESPACE, Story, opened, until

pytestmark = pytest.mark.desk

SCALED, CANCELLED, KEPT, WATCHED, COUNTED, STUCK = (
    "hand/scaled",
    "hand/cancelled",
    "hand/kept-awake",
    "hand/watched",
    "hand/counted",
    "hand/put-to-sleep",
)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    environment = {"DIOGENES_KEY_CACHE_S": "1"}
    with opened(SCALED, CANCELLED, KEPT, WATCHED, COUNTED, STUCK, load_seconds=1.5, environment=environment) as story:
        yield story


async def test_a_model_is_woken_and_put_to_sleep_by_hand(story: Story) -> None:
    await story.scale(SCALED, 1)
    node = await story.node(SCALED)
    await story.scale(SCALED, 0)
    await story.gone(SCALED)
    assert story.row(node)["reason"] == "put to sleep by hand"
    await until(lambda: story.row(node)["status"] == "terminated", "the row says that it is gone")
    assert (await story.status(SCALED))["status"] == "cold"
    assert (await story.ask(SCALED)).whole, "asleep is not off"


async def test_who_is_being_answered_is_answered_before_the_model_sleeps(story: Story) -> None:
    begun = asyncio.Event()
    streaming = asyncio.create_task(story.ask(STUCK, "[[tokens=60 gap=0.05]]", stream=True, begun=begun))
    await asyncio.wait_for(begun.wait(), BOUND_S)
    await story.scale(STUCK, 0)
    answer = await streaming
    assert answer.whole, answer
    assert len(answer.text.split()) == 60
    await story.gone(STUCK)


async def test_a_cancelled_start_tells_who_waits_and_leaves_nothing(story: Story) -> None:
    waiting = [asyncio.create_task(story.ask(CANCELLED, stream=stream)) for stream in (True, False)]
    await story.loading(CANCELLED)
    async with story.http() as http:
        cancelled = await http.post(f"api/models/{CANCELLED}/cancel")
    assert cancelled.status_code == 202
    assert {answer.error for answer in await asyncio.gather(*waiting)} == {"start_cancelled"}
    await story.gone(CANCELLED)
    assert len(story.launched(CANCELLED)) == 1


async def test_a_model_that_is_kept_awake_stays_past_its_idle_time(story: Story) -> None:
    assert (await story.ask(KEPT)).whole
    node = await story.node(KEPT)
    async with story.http() as http:
        until_s = int(time.time()) + 6
        kept = await http.put(f"api/models/{KEPT}/keep-awake", json={"until": until_s})
        assert kept.json()["keep_awake_until"] == until_s
    await story.gone(KEPT)
    assert story.row(node)["draining_since"] >= until_s


async def test_a_start_can_be_watched_phase_by_phase(story: Story) -> None:
    await story.scale(WATCHED, 1)
    await story.loading(WATCHED)
    status = await story.status(WATCHED)
    assert status["status"] == "starting"
    assert status["start"]["phase"] in ("weights", "load", "compile", "warmup")
    (instance,) = status["instances"]
    phases = [record["phase"] for record in instance["phases"]]
    assert phases[:2] == ["instance", "engine-install"]
    assert instance["log_tail"]
    await story.node(WATCHED)
    async with story.http() as http:
        entries = {entry["name"]: entry for entry in (await http.get("api/cluster")).json()["models"]}
    assert entries[WATCHED]["status"] == "ready"
    assert entries[WATCHED]["sleeps_at"] > entries[WATCHED]["instances"][0]["ready_at"]


async def test_a_revoked_key_dies_within_its_bound(story: Story) -> None:
    async with story.http() as http:
        made = (await http.post("api/keys", json={"name": "laptop"})).json()
        listed = (await http.get("api/keys")).json()["keys"]
        assert [entry["name"] for entry in listed if entry["key_id"] == made["key_id"]] == ["laptop"]
        assert made["key"] not in str(listed)
        async with story.http(made["key"]) as mine:
            assert (await mine.get("v1/models")).status_code == 200
            assert (await http.delete(f"api/keys/{made['key_id']}")).status_code == 204
            revoked = time.monotonic()
            while (await mine.get("v1/models")).status_code != 401:
                assert time.monotonic() < revoked + 5, "it still holds"
                await asyncio.sleep(0.1)
        assert made["key_id"] not in str((await http.get("api/keys")).json())
    refused = await story.ask(SCALED, key=made["key"])
    assert (refused.error, refused.status) == ("invalid_api_key", 401)


async def test_every_answer_is_counted_in_the_table(story: Story) -> None:
    answers = await asyncio.gather(
        story.ask(COUNTED, "one two three [[tokens=5]]"),
        story.ask_sync(COUNTED, "one two three [[tokens=6]]"),
        story.ask(COUNTED, "one two three [[tokens=7]]", stream=True),
    )
    assert [answer for answer in answers if not answer.whole] == []
    day = datetime.now(UTC).strftime("%Y-%m-%d")

    def counted(what: str) -> int:
        """Of the owner's rows for this model, a quarter of an hour each."""
        mine = [row for row in usage_rows(story) if row["owner_month"] == f"{OWNER}#{day[:7]}"]
        return sum(row[what] for row in mine if COUNTED in row["day_model"].split("#"))

    await until(lambda: counted("requests") == 3, "three requests are counted")
    assert (counted("prompt_tokens"), counted("completion_tokens")) == (30, 18)


def usage_rows(story: Story) -> Sequence[Mapping[str, Any]]:
    client = boto3.client(
        "dynamodb",
        endpoint_url=story.desk.aws_url,
        region_name=REGION,
        aws_access_key_id="desk",
        aws_secret_access_key="desk",
    )
    items = client.scan(TableName=USAGE.full_name(NAMESPACE))["Items"]
    client.close()
    return [from_attributes(item) for item in items]
