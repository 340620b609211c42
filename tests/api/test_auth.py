"""Who is let in: the key in either header, typos told from unknown keys, and revoked keys dying in time."""

from __future__ import annotations

import asyncio

import httpx

from control_plane.api_keys import mint
from control_plane.dialect import DIALECTS
from control_plane.errors import Unavailable
from control_plane.settings import Settings
from tests.api.asking import ASK, CHAT, GOOD_BODIES, MESSAGES, anthropic_refusal, nothing_happened, refusal
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

READS = ("/v1/models", f"/v1/models/{MODEL}", "/api/cluster", "/api/models", f"/api/models/{MODEL}", "/api/keys")


def stranger(world: World, **headers: str) -> httpx.AsyncClient:
    """A client that brings these headers and no key but what is among them."""
    return httpx.AsyncClient(base_url=world.url, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def turned_away(http: httpx.AsyncClient, code: str) -> None:
    for path in READS:
        refusal(await http.get(path), 401, code)
    for path, body in GOOD_BODIES.items():
        reply = await http.post(path, json=dict(body))
        if path == MESSAGES:
            anthropic_refusal(reply, 401, "authentication_error")
        else:
            refusal(reply, 401, code)
    refusal(await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1}), 401, code)
    refusal(await http.put(f"/api/models/{MODEL}/keep-awake", json={"until": None}), 401, code)
    refusal(await http.patch(f"/api/models/{MODEL}", json={}), 401, code)
    refusal(await http.post(f"/api/models/{MODEL}/cancel"), 401, code)
    refusal(await http.post("/api/keys", json={"name": "mine"}), 401, code)
    refusal(await http.delete("/api/keys/0123456789abcdef"), 401, code)


@story
async def test_without_a_key_nothing_is_answered() -> None:
    async with deployment() as world, stranger(world) as http:
        await turned_away(http, "missing_api_key")
        assert nothing_happened(world)


@story
async def test_another_scheme_or_an_empty_key_is_no_key() -> None:
    async with deployment() as world:
        for header in ("Bearer", f"Basic {world.api_key}", world.api_key, f"Bearer:{world.api_key}"):
            async with stranger(world, authorization=header) as http:
                refusal(await http.post(CHAT, json=dict(ASK)), 401, "missing_api_key")
        assert nothing_happened(world)


@story
async def test_a_typo_is_told_without_asking_the_store() -> None:
    async with deployment() as world:
        typo = world.api_key[:-1] + ("A" if world.api_key[-1] != "A" else "B")
        world.keys.broken.fail("list", times=100)
        async with stranger(world, authorization=f"Bearer {typo}") as http:
            await turned_away(http, "invalid_api_key")
            assert "typo" in refusal(await http.get("/v1/models"), 401)["message"]
        assert nothing_happened(world)


@story
async def test_an_unknown_key_is_turned_away() -> None:
    async with deployment() as world, stranger(world, authorization=f"Bearer {mint(bytes(32))}") as http:
        await turned_away(http, "invalid_api_key")
        assert "not known" in refusal(await http.get("/v1/models"), 401)["message"]
        assert nothing_happened(world)


@story
async def test_odd_bytes_in_a_key_are_no_fault_of_ours() -> None:
    async with deployment() as world:
        for odd in (b"Bearer \xff\xfe", b"Bearer dio-\xe9" + b"x" * 48, b"Bearer " + b"x" * 10_000):
            async with httpx.AsyncClient(base_url=world.url, headers={b"authorization": odd}) as http:
                refusal(await http.get("/v1/models"), 401, "invalid_api_key")
                refusal(await http.post(CHAT, json=dict(ASK)), 401, "invalid_api_key")
        assert nothing_happened(world)


@story
async def test_the_key_may_come_in_either_header() -> None:
    async with deployment() as world:
        for headers in (
            {"authorization": f"Bearer {world.api_key}"},
            {"authorization": f"bearer  {world.api_key}"},
            {"x_api_key": world.api_key},
            {"x_api_key": world.api_key, "authorization": "Basic eDp5"},
        ):
            async with stranger(world, **headers) as http:
                assert (await http.get("/v1/models")).status_code == 200
                refusal(await http.post(CHAT, json={}), 400)  # in, and no further


@story
async def test_a_revoked_key_dies_within_the_time_that_keys_are_cached() -> None:
    async with deployment(Settings(key_cache_s=10.0)) as world, world.http() as http:
        assert (await http.get("/v1/models")).status_code == 200
        world.keys.rows.clear()  # another program revoked it
        assert (await http.get("/v1/models")).status_code == 200
        await asyncio.sleep(10.1)
        await turned_away(http, "invalid_api_key")
        assert nothing_happened(world)


@story
async def test_when_keys_cannot_be_read_the_client_is_told_to_come_back() -> None:
    async with deployment() as world, world.http(x_diogenes_wait="0") as http:
        world.keys.broken.fail("list", Unavailable("throttled"), times=2)
        for reply in (await http.get("/v1/models"), await http.post(CHAT, json=dict(ASK))):
            refusal(reply, 503, "aws_unavailable")
            assert reply.headers["retry-after"] == "5"
            assert reply.headers["x-should-retry"] == "true"
        assert nothing_happened(world)
        assert (await http.get("/v1/models")).status_code == 200


@story
async def test_what_is_public_needs_no_key() -> None:
    async with deployment() as world, stranger(world) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/")).json()["service"] == "diogenes"
        assert set(DIALECTS).isdisjoint((await http.get("/api/openapi.json")).json()["paths"])


@story
async def test_a_refusal_reaches_a_client_that_still_sends_its_body() -> None:
    async with deployment() as world, stranger(world) as http:
        large = b" " * (16 * 1024 * 1024)
        refusal(await http.post(CHAT, content=large), 401, "missing_api_key")
        refusal(await http.post(CHAT, content=large, headers={"authorization": "Bearer dio-typo"}), 401)
