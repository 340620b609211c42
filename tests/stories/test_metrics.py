"""What is counted agrees with what was asked, and is read by nobody but who is inside."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_plane.errors import NoCapacity
from control_plane.inside import inside
from tests.stories.clients import ASK
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

CHAT = "/v1/chat/completions"
STREAM = {**ASK, "stream": True}
FULL = NoCapacity("InsufficientInstanceCapacity", "none left")

Numbers = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client at the door inside."""
    async with (
        inside(world.plane.exposition, host="127.0.0.1", port=0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def numbers(client: httpx.AsyncClient) -> Numbers:
    reply = await client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(reply.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(found: Numbers, name: str, **labels: str) -> float:
    """0 for what was never counted."""
    return found.get((f"diogenes_{name}", frozenset(labels.items())), 0.0)


def requests(found: Numbers, status: str, *, model: str = MODEL, route: str = CHAT) -> float:
    return of(found, "requests_total", model=model, route=route, status=status)


@story
async def test_the_counters_agree_with_what_was_asked() -> None:
    async with deployment() as world, world.http() as http, watched(world) as watcher:
        world.behaviour.first_token_s = 0.2
        assert (await http.post(CHAT, json=STREAM)).status_code == 200  # cold
        for _ in range(3):
            await http.post(CHAT, json=STREAM)
        await http.post(CHAT, json=ASK)
        await http.post("/v1/completions", json={"model": MODEL, "prompt": "hi"})
        await http.post(CHAT, json={**ASK, "model": "made/up"})
        await http.post(CHAT, json=ASK, headers={"authorization": "Bearer dio-wrong"})
        await http.get(CHAT)
        found = await numbers(watcher)
        row = next(iter(world.models.rows.values()))
    assert requests(found, "2xx") == 5
    assert requests(found, "2xx", route="/v1/completions") == 1
    assert requests(found, "4xx", model="") == 3  # none of them named a model of the line-up
    assert sum(value for (name, _), value in found.items() if name == "diogenes_requests_total") == 9
    warm = {"model": MODEL, "start": "warm"}
    assert of(found, "time_to_first_token_seconds_count", **warm) == 3
    assert of(found, "time_to_first_token_seconds_sum", **warm) == pytest.approx(0.6, abs=0.05)
    assert of(found, "time_to_first_token_seconds_bucket", **warm, le="0.1") == 0
    assert of(found, "time_to_first_token_seconds_bucket", **warm, le="0.25") == 3
    assert of(found, "time_to_first_token_seconds_count", model=MODEL, start="cold") == 1
    assert of(found, "relay_overhead_seconds_count") == 5  # of all that found an engine ready
    (boot,) = row.boots
    assert of(found, "cold_start_seconds_sum", model=MODEL) == boot.seconds
    for phase, seconds in boot.phases.items():
        assert of(found, "cold_start_phase_seconds_sum", model=MODEL, phase=phase) == seconds
    assert of(found, "nodes", model=MODEL, state="ready") == 1


@story
async def test_what_is_refused_is_counted_as_such_also_after_a_200_and_who_hangs_up_apart() -> None:
    async with deployment() as world, world.http() as http, watched(world) as watcher:
        world.cloud.refusals = {
            (f"group-{MODEL}", zone): NoCapacity("no_gpu_capacity", "none left") for zone in ("a", "b")
        }
        assert (await http.post(CHAT, json=ASK)).status_code == 503
        assert requests(await numbers(watcher), "5xx") == 1
        world.cloud.refusals.clear()
        await asyncio.sleep(100)
        world.behaviour.token_s = 100.0
        asking = asyncio.create_task(http.post(CHAT, json=STREAM))
        await world.until_ready()
        await asyncio.sleep(50)
        asking.cancel()
        await asyncio.sleep(1)
        assert requests(await numbers(watcher), "hung-up") == 1
        world.behaviour.token_s, world.behaviour.dies_after = 0.0, 1
        assert (await http.post(CHAT, json=STREAM)).status_code == 200  # and then an error in the stream
        found = await numbers(watcher)
    assert requests(found, "5xx") == 2
    assert requests(found, "2xx") == 0


@story
async def test_what_waits_streams_runs_and_costs_is_told_as_it_is() -> None:
    async with deployment() as world, world.http() as http, watched(world) as watcher:
        assert of(await numbers(watcher), "dollars_per_hour") == 0
        asking = [asyncio.create_task(http.post(CHAT, json=STREAM)) for _ in range(3)]
        await asyncio.sleep(10)
        found = await numbers(watcher)
        assert of(found, "waiting_requests", model=MODEL) == 3
        assert of(found, "nodes", model=MODEL, state="starting") == 1
        assert of(found, "streams", model=MODEL) == 0
        world.behaviour.token_s = 100.0
        await world.until_ready()
        await asyncio.sleep(20)
        found = await numbers(watcher)
        assert of(found, "waiting_requests", model=MODEL) == 0
        assert of(found, "streams", model=MODEL) == 3
        node = world.node(world.living[0])
        assert of(found, "dollars_per_hour") == pytest.approx(node.micro_usd_per_hour / 1e6)
        assert node.micro_usd_per_hour
        assert of(found, "month_dollars") > 0
        await asyncio.gather(*asking)


@story
async def test_neither_keys_nor_addresses_nor_made_up_models_become_labels() -> None:
    async with deployment() as world, world.http() as http, watched(world) as watcher:
        for number in range(20):
            await http.post(CHAT, json={**ASK, "model": f"made/up-{number}"})
        text = (await watcher.get("/metrics")).text
        assert text.count("diogenes_requests_total{") == 1
        assert not any(told in text for told in ("made/up", "ann@example.com", world.api_key[:12]))


@story
async def test_the_public_door_has_no_metrics_and_the_inner_one_nothing_else() -> None:
    async with deployment() as world, world.http() as known, watched(world) as watcher:
        async with httpx.AsyncClient(base_url=world.url) as stranger:
            for path in ("/metrics", "/metrics/", "/v1/metrics", "/api/metrics"):
                assert (await stranger.get(path)).status_code in (401, 404), path
                reply = await known.get(path)
                assert reply.status_code == 404, path
                assert "diogenes_" not in reply.text
        assert (await watcher.get("/metrics")).status_code == 200
        assert (await watcher.get("/metrics", headers={"x-forwarded-for": "203.0.113.7"})).status_code == 404
        assert (await watcher.post("/metrics")).status_code == 404
        for path in ("/healthz", "/api/cluster", "/v1/models", CHAT, "/"):
            assert (await watcher.get(path)).status_code == 404, path
        assert (await watcher.get("/metrics", headers={"accept": "application/openmetrics-text"})).text.endswith(
            "# EOF\n"
        )


@story
async def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with deployment() as world, world.http() as http:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            async with inside(world.plane.exposition, host="127.0.0.1", port=taken.getsockname()[1]) as port:
                assert port == 0
                assert (await http.get("/v1/models")).status_code == 200
    assert "nothing is served inside" in caplog.text


@story
async def test_looking_at_metrics_keeps_nothing_awake() -> None:
    async with deployment() as world, watched(world) as watcher:
        await asyncio.sleep(10)
        await watcher.get("/metrics")
        assert not world.plane.needed()


@story
async def test_a_minute_with_requests_is_told_to_cloudwatch_and_a_start_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="control_plane.record")
    async with deployment() as world, world.http() as http:
        world.behaviour.first_token_s = 0.5
        for _ in range(3):
            await http.post(CHAT, json=STREAM)
        await asyncio.sleep(61)
    lines = [vars(record) for record in caplog.records if record.getMessage() == "measured"]
    (started,) = [line for line in lines if "ColdStart" in line]
    assert started["ColdStart"] == pytest.approx(started["ColdStartInstance"] + started["ColdStartLoad"])
    assert "ColdStartWeights" not in started
    told = [line for line in lines if "Requests" in line]
    assert sum(line["Requests"] for line in told) == 3
    assert sum(line["FailedRequests"] for line in told) == 0
    first = [value for line in told for value in line["TimeToFirstToken"]]
    assert sorted(first)[:2] == [pytest.approx(0.5, abs=0.05)] * 2
    assert len([value for line in told for value in line["RelayOverhead"]]) == 2
    assert any("Requests" not in line and "Nodes" in line for line in lines)  # a minute in which nobody asked
