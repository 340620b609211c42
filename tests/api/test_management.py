"""The management API: what runs, the hand on the switch, and what may be changed; reading never costs anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from control_plane.errors import Unavailable
from gpu_node.protocol import Failure
from tests.api.asking import ASK, CHAT, awake, nothing_happened, refusal
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment

SCALE = "/api/cluster/scale"
ONE = f"/api/models/{MODEL}"


# -- looking


@story
async def test_the_cluster_tells_a_cold_model() -> None:
    async with deployment() as world, world.http() as http:
        cluster = (await http.get("/api/cluster")).json()
        assert cluster["now"] == pytest.approx(world.clock(), abs=1)
        (model,) = cluster["models"]
        assert (model["name"], model["status"], model["instances"]) == (MODEL, "cold", [])
        assert (model["start"], model["failure"], model["sleeps_at"], model["keep_awake_until"]) == (None,) * 4
        assert model["waiting_requests"] == 0


@story
async def test_the_cluster_tells_how_far_a_start_is() -> None:
    async with deployment() as world, world.http() as http:
        asking = asyncio.create_task(http.post(CHAT, json=dict(ASK)))
        await asyncio.sleep(40)
        (model,) = (await http.get("/api/cluster")).json()["models"]
        assert (model["status"], model["waiting_requests"], model["start"]["phase"]) == ("starting", 1, "load")
        assert 35 <= model["start"]["elapsed_s"] <= 40
        (node,) = model["instances"]
        assert (node["status"], node["instance_id"], node["ready_at"]) == ("starting", world.living[0], None)
        await asking
        (model,) = (await http.get("/api/cluster")).json()["models"]
        assert (model["status"], model["start"], model["instances"][0]["status"]) == ("ready", None, "ready")


@story
async def test_a_failed_start_is_told_with_what_to_do() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.failure = Failure("gated_model", "The model is gated.", "Ask for access.", permanent=True)
        await http.post(CHAT, json=dict(ASK))
        model = (await http.get(ONE)).json()
        assert model["status"] == "failed"
        assert world.boot.failure.to_dict().items() <= model["failure"].items()
        assert model["failure"]["fixes"]


@story
async def test_models_are_told_with_their_configuration() -> None:
    async with deployment() as world, world.http() as http:
        (listed,) = (await http.get("/api/models")).json()["models"]
        one = (await http.get(ONE)).json()
        assert {key: one[key] for key in listed} | {"instances": []} == listed
        assert one["config"] == one["effective"] == world.models.rows[MODEL].config
        assert one["override"] == {}
        refusal(await http.get("/api/models/org/modle"), 404, "model_not_found")


@story
async def test_looking_does_not_keep_a_model_awake() -> None:
    async with awake(idleTimeout=60) as world, world.http() as http:
        start = world.clock()
        while world.living:
            for path in ("/api/cluster", "/api/models", ONE, "/v1/models", f"/v1/models/{MODEL}", "/healthz"):
                assert (await http.get(path)).status_code == 200
            assert world.clock() - start < 90
            await asyncio.sleep(2)
        assert len(world.cloud.launches) == 1


@story
async def test_refused_requests_do_not_keep_a_model_awake() -> None:
    async with awake(idleTimeout=60) as world, world.http() as http:
        start = world.clock()
        while world.living:
            refusal(await http.post(CHAT, json={**ASK, "messages": 1}), 400)
            assert world.clock() - start < 90
            await asyncio.sleep(2)


@story
async def test_when_the_tables_cannot_be_read_the_caller_is_told_to_come_back() -> None:
    async with deployment() as world, world.http() as http:
        for path in ("/api/cluster", "/api/models", "/v1/models", ONE):
            world.models.broken.fail("list", Unavailable("throttled"))
            reply = await http.get(path)
            refusal(reply, 503, "aws_unavailable")
            assert reply.headers["retry-after"] == "5"


# -- the switch


@pytest.mark.parametrize(
    "body",
    [
        {"model": MODEL, "desired": -1},
        {"model": MODEL, "desired": 2},
        {"model": MODEL, "desired": 10**30},
        {"model": MODEL, "desired": "1"},
        {"model": MODEL, "desired": 1.0},
        {"model": MODEL, "desired": True},
        {"model": MODEL, "desired": None},
        {"model": MODEL},
        {"desired": 1},
        {"model": 7, "desired": 1},
        {"model": "\ud800", "desired": 1},
        {"model": MODEL, "desired": 1, "force": True},
        [],
        "scale",
        None,
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(body: Any) -> None:
    @story
    async def refused() -> None:
        async with deployment() as world, world.http(content_type="application/json") as http:
            error = refusal(await http.post(SCALE, content=json.dumps(body)), 400)
            assert error["type"] == "invalid_request_error"
            assert nothing_happened(world)

    refused()


@story
async def test_a_management_body_that_is_no_json_is_refused() -> None:
    async with deployment() as world, world.http(content_type="application/json") as http:
        for body in (b"", b"{", b"\xff", b"[" * 30_000, b'{"model": 1' + b"0" * 5000 + b"}"):
            for method, path in (("POST", SCALE), ("POST", "/api/keys"), ("PATCH", ONE), ("PUT", f"{ONE}/keep-awake")):
                refusal(await http.request(method, path, content=body), 400)
        assert nothing_happened(world)


@story
async def test_scaling_an_unknown_model_is_a_404() -> None:
    async with deployment() as world, world.http() as http:
        for desired in (0, 1):
            refusal(await http.post(SCALE, json={"model": "org/modle", "desired": desired}), 404, "model_not_found")
        assert nothing_happened(world)


@story
async def test_a_model_is_woken_by_hand_and_goes_to_sleep_again() -> None:
    async with deployment(idleTimeout=60) as world, world.http() as http:
        reply = await http.post(SCALE, json={"model": MODEL, "desired": 1})
        assert (reply.status_code, reply.json()["status"]) == (202, "starting")
        await world.until_ready()
        assert len(world.living) == 1
        await world.until_gone(120)
        assert len(world.cloud.launches) == 1


@story
async def test_putting_a_model_to_sleep_cuts_no_stream() -> None:
    async with awake() as world, world.http() as http:
        world.behaviour.tokens, world.behaviour.token_s = ("t",) * 60, 1.0
        async with http.stream("POST", CHAT, json={**ASK, "stream": True}) as reply:
            lines = reply.aiter_lines()
            await anext(lines)
            scaled = await http.post(SCALE, json={"model": MODEL, "desired": 0})
            assert scaled.status_code == 202
            await asyncio.sleep(10)
            assert (await http.get(ONE)).json()["status"] == "draining"
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert await world.until_gone(20) <= 20
        await asyncio.sleep(10)  # until the cloud was looked at again
        assert (await http.get(ONE)).json()["status"] == "cold"


@story
async def test_a_model_that_sleeps_by_hand_wakes_for_the_next_question() -> None:
    async with awake() as world, world.http() as http:
        await http.post(SCALE, json={"model": MODEL, "desired": 0})
        await world.until_gone(60)
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200


@story
async def test_a_start_is_cancelled_by_hand_and_who_waits_is_told() -> None:
    async with deployment() as world, world.http() as http:
        asking = asyncio.create_task(http.post(CHAT, json=dict(ASK)))
        await asyncio.sleep(10)
        assert (await http.post(f"{ONE}/cancel")).status_code == 202
        refusal(await asking, 503, "start_cancelled")
        await world.until_gone(30)


@story
async def test_only_a_start_can_be_cancelled() -> None:
    async with awake() as world, world.http() as http:
        assert "ready" in refusal(await http.post(f"{ONE}/cancel"), 409, "not_starting")["message"]
        await http.post(SCALE, json={"model": MODEL, "desired": 0})
        await world.until_gone(60)
        await asyncio.sleep(20)
        assert "cold" in refusal(await http.post(f"{ONE}/cancel"), 409, "not_starting")["message"]
        refusal(await http.post("/api/models/org/modle/cancel"), 404, "model_not_found")


# -- keep awake


@story
async def test_keep_awake_must_lie_ahead_by_at_most_a_day() -> None:
    async with deployment() as world, world.http(content_type="application/json") as http:
        now = world.clock()
        wrong: list[Any] = [now - 1, now + 25 * 3600, 0, -1, float("inf"), float("nan"), "soon", True, []]
        for until in wrong:
            refusal(await http.put(f"{ONE}/keep-awake", content=json.dumps({"until": until})), 400)
        refusal(await http.put(f"{ONE}/keep-awake", json={}), 400)
        refusal(await http.put("/api/models/org/modle/keep-awake", json={"until": now + 60}), 404, "model_not_found")
        assert nothing_happened(world)


@story
async def test_keep_awake_starts_nothing() -> None:
    async with deployment() as world, world.http() as http:
        reply = await http.put(f"{ONE}/keep-awake", json={"until": world.clock() + 3600})
        assert (reply.status_code, reply.json()["status"]) == (200, "cold")
        await asyncio.sleep(120)
        assert not world.cloud.launches


@story
async def test_keep_awake_keeps_a_node_past_its_idle_timeout_until_it_is_taken_back() -> None:
    async with awake(idleTimeout=60) as world, world.http() as http:
        until = world.clock() + 3600
        reply = await http.put(f"{ONE}/keep-awake", json={"until": until})
        assert (reply.json()["keep_awake_until"], reply.json()["sleeps_at"]) == (until, until)
        await asyncio.sleep(1800)
        assert len(world.living) == 1
        reply = await http.put(f"{ONE}/keep-awake", json={"until": None})
        assert reply.json()["keep_awake_until"] is None
        await world.until_gone(60)


@story
async def test_keep_awake_ends_by_itself() -> None:
    async with awake(idleTimeout=60) as world, world.http() as http:
        await http.put(f"{ONE}/keep-awake", json={"until": world.clock() + 600})
        assert await world.until_gone(660) >= 600
