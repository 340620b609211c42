"""What a trace tells: of a request, and of the start that it brought about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from control_plane.errors import NoCapacity
from control_plane.spans import NotSent, Span
from control_plane.traces import MAX_QUEUED
from gpu_node.protocol import Failure
from tests.stories.clients import ASK
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CHAT = "/v1/chat/completions"
ROOT = f"POST {CHAT}"
EVERY_FLUSH_S = 6.0
FULL = NoCapacity("InsufficientInstanceCapacity", "none left")
STREAM: dict[str, Any] = {**ASK, "stream": True}


class Kept:
    """Whoever keeps traces."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.trouble: NotSent | None = None
        self.asked = 0

    async def __call__(self, spans: Sequence[Span]) -> None:
        self.asked += 1
        if self.trouble:
            raise self.trouble
        self.spans += spans

    def of(self, name: str) -> Sequence[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        (found,) = self.of(name)
        return found

    def parent(self, span: Span) -> str:
        """By its name; empty for the first of a trace."""
        return next((each.name for each in self.spans if each.context.span_id == span.context.parent_id), "")


@story
async def test_a_cold_request_is_one_trace_from_the_question_to_the_first_token() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        world.behaviour.first_token_s = 2.0
        asked_at = world.clock()
        assert (await http.post(CHAT, json=STREAM)).status_code == 200
        ended_at = world.clock()
        await asyncio.sleep(EVERY_FLUSH_S)
        node = world.node(world.living[0])
    assert {span.context.trace_id for span in kept.spans} == {kept.one(ROOT).context.trace_id}
    assert {span.name: kept.parent(span) for span in kept.spans} == {
        ROOT: "",
        "wish": ROOT,
        "launch": ROOT,
        "node start": ROOT,
        "instance": "node start",
        "load": "node start",
        "wait": ROOT,
        "first token": ROOT,
    }
    assert len(kept.spans) == 8
    assert len({span.context.span_id for span in kept.spans}) == 8
    root, start, first = kept.one(ROOT), kept.one("node start"), kept.one("first token")
    assert root.serves
    assert asked_at <= root.start <= root.end <= ended_at
    assert (start.start, start.end) == (node.launched_at, node.ready_at)
    instance, load = kept.one("instance"), kept.one("load")
    assert (instance.start, instance.end, load.end) == (start.start, load.start, start.end)
    assert load.end - load.start == pytest.approx(world.boot.load_s)
    wish, launch, wait = kept.one("wish"), kept.one("launch"), kept.one("wait")
    assert root.start <= wish.start <= wish.end <= launch.start <= launch.end
    assert wait.start == wish.end
    assert start.end <= wait.end <= first.start
    assert first.end - first.start == pytest.approx(2.0)
    assert first.end <= root.end
    assert not any(span.error for span in kept.spans)


@story
async def test_a_trace_holds_nothing_that_was_said_and_nobodys_key_or_address() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        await http.post(CHAT, json={**STREAM, "messages": [{"role": "user", "content": "the secret plan"}]})
        await asyncio.sleep(EVERY_FLUSH_S)
        told = repr(kept.spans)
        assert kept.one(ROOT).attributes["diogenes.model"] == MODEL
        for secret in (world.api_key, world.api_key[:12], "secret plan", "Hello", "ann@example.com"):
            assert secret not in told


@story
async def test_a_request_is_part_of_the_clients_trace_unless_that_is_not_kept() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        for flags in ("01", "00"):
            await http.post(CHAT, json=ASK, headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})
        await asyncio.sleep(EVERY_FLUSH_S)
    root = kept.one(ROOT)
    assert (root.context.trace_id, root.context.parent_id) == (TRACE, SPAN)
    assert {span.context.trace_id for span in kept.spans} == {TRACE}


@story
async def test_who_waits_for_the_same_start_has_a_trace_that_links_to_it() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        first = asyncio.create_task(http.post(CHAT, json=ASK, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}))
        await asyncio.sleep(5)
        replies = await asyncio.gather(first, *(http.post(CHAT, json=ASK) for _ in range(3)))
        assert [reply.status_code for reply in replies] == [200] * 4
        await asyncio.sleep(EVERY_FLUSH_S)
    assert kept.one("launch").context.trace_id == kept.one("node start").context.trace_id == TRACE
    others = [span for span in kept.of(ROOT) if span.context.trace_id != TRACE]
    assert len({span.context.trace_id for span in others}) == 3
    assert [[link.trace_id for link in span.links] for span in others] == [[TRACE]] * 3


@story
async def test_a_start_by_hand_is_a_trace_of_its_own_and_a_warm_request_one_without_a_start() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1})
        await world.until_ready()
        await asyncio.sleep(EVERY_FLUSH_S)
        assert kept.parent(kept.one("launch")) == ""
        assert kept.parent(kept.one("node start")) == "launch"
        kept.spans.clear()
        await http.post(CHAT, json=STREAM)
        await asyncio.sleep(EVERY_FLUSH_S)
    assert {span.name: kept.parent(span) for span in kept.spans} == {ROOT: "", "first token": ROOT}


@story
async def test_a_refused_launch_and_the_request_that_it_cost_are_marked() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        world.cloud.refusals = {
            (f"group-{MODEL}", zone): NoCapacity("no_gpu_capacity", "none left") for zone in ("a", "b")
        }
        assert (await http.post(CHAT, json=ASK)).status_code == 503
        await asyncio.sleep(EVERY_FLUSH_S)
    assert kept.one("launch").error == "no_gpu_capacity"
    assert kept.parent(kept.one("launch")) == ROOT
    assert kept.one(ROOT).error == "503"
    assert kept.one("wait").error == "not ready"
    assert not kept.of("node start")


@story
async def test_a_start_by_hand_later_on_is_none_of_the_request_that_was_refused() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        full = NoCapacity("no_gpu_capacity", "none left")
        world.cloud.refusals = {(f"group-{MODEL}", zone): full for zone in ("a", "b")}
        assert (await http.post(CHAT, json=ASK)).status_code == 503
        await asyncio.sleep(600)
        world.cloud.refusals = {}
        kept.spans.clear()
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1})
        await world.until_ready()
        await asyncio.sleep(EVERY_FLUSH_S)
    assert kept.one("launch").context.parent_id == ""
    assert kept.parent(kept.one("node start")) == "launch"


@story
async def test_a_start_that_failed_and_the_one_after_it_stand_on_the_same_trace() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        world.boot.failure = Failure("engine_crashed", "It died: the secret plan.")
        asking = asyncio.create_task(http.post(CHAT, json=STREAM))
        await asyncio.sleep(40)
        world.boot.failure = None
        assert (await asking).status_code == 200
        await asyncio.sleep(EVERY_FLUSH_S)
    assert [span.error for span in kept.of("node start")] == ["engine_crashed", ""]
    assert [span.error for span in kept.of("load")] == ["engine_crashed", ""]
    assert {span.context.trace_id for span in kept.spans} == {kept.one(ROOT).context.trace_id}
    assert "secret plan" not in repr(kept.spans)


@story
async def test_a_client_that_hangs_up_is_no_failure_and_its_start_is_told_to_its_end() -> None:
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        world.boot.load_s = 500
        asking = asyncio.create_task(http.post(CHAT, json=STREAM))
        await asyncio.sleep(60)
        asking.cancel()
        await world.until_gone(200)
        await asyncio.sleep(EVERY_FLUSH_S)
    root = kept.one(ROOT)
    assert (root.attributes["http.response.status_code"], root.error) == (499, "")
    assert kept.one("node start").error == "cancelled"
    assert kept.parent(kept.one("node start")) == ROOT


@story
async def test_while_the_endpoint_is_away_nothing_else_notices_and_only_the_oldest_spans_are_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = Kept()
    kept.trouble = NotSent("the endpoint did not answer: ClientConnectorError")
    async with deployment(export=kept) as world, world.http() as http:
        assert (await http.post(CHAT, json=STREAM)).status_code == 200
        await asyncio.sleep(600)
        assert kept.asked > 5
        told = [record for record in caplog.records if record.getMessage() == "spans not sent"]
        assert len(told) == 1  # not again and again
        kept.trouble = None
        assert (await http.post(CHAT, json=STREAM)).status_code == 200
        await asyncio.sleep(EVERY_FLUSH_S)
    assert {span.name for span in kept.spans} >= {ROOT, "first token"}


@story
async def test_an_endpoint_that_never_answers_holds_up_no_end() -> None:
    async def never(_: Sequence[Span]) -> None:
        await asyncio.Event().wait()

    async with deployment(export=never) as world:
        async with world.http() as http:
            assert (await http.post(CHAT, json=STREAM)).status_code == 200
        since = world.clock()
        async with world.plane.running():
            pass
        assert world.clock() - since <= 10.0


@story
async def test_what_waits_to_be_sent_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    kept = Kept()
    async with deployment(export=kept) as world, world.http() as http:
        await http.post(CHAT, json=STREAM)
        await asyncio.sleep(EVERY_FLUSH_S)
        kept.spans.clear()
        traces = world.plane.record.traces
        assert traces
        for _ in range(MAX_QUEUED + 10):
            traces._within(kept.spans[0].context if kept.spans else traces._root(), "x", 0.0, 1.0)
        await traces.flush()
    assert len(kept.of("x")) == MAX_QUEUED
    assert [record.__dict__["spans"] for record in caplog.records if record.getMessage() == "spans lost"] == [10]
