"""What may be changed over the API: a model's overrides, and one's own keys."""

from __future__ import annotations

import asyncio
import json

import pytest

from control_plane.books import Limit
from control_plane.errors import Stale, Unavailable
from tests.api.asking import awake, nothing_happened, refusal
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment

ONE = f"/api/models/{MODEL}"


@story
async def test_an_override_holds_beside_the_configuration_and_null_takes_it_back() -> None:
    async with deployment() as world, world.http() as http:
        changed = (await http.patch(ONE, json={"idleTimeout": 900, "vllmArgs": "--max-model-len 100"})).json()
        assert changed["override"] == {"idleTimeout": 900, "vllmArgs": "--max-model-len 100"}
        assert (changed["config"]["idleTimeout"], changed["effective"]["idleTimeout"]) == (300, 900)
        assert changed["idle_timeout_s"] == 900
        back = (await http.patch(ONE, json={"idleTimeout": None})).json()
        assert back["override"] == {"vllmArgs": "--max-model-len 100"}
        assert back["effective"]["idleTimeout"] == 300
        assert nothing_happened(world)


@story
async def test_a_shorter_idle_timeout_holds_for_the_node_that_runs() -> None:
    async with awake(idleTimeout=3000) as world, world.http() as http:
        assert (await http.patch(ONE, json={"idleTimeout": 30})).status_code == 200
        await world.until_gone(60)


@pytest.mark.parametrize(
    "override",
    [
        {"idleTimeout": 0},
        {"idleTimeout": 1e3},
        {"idleTimeout": float("nan")},
        {"idleTimeout": "900"},
        {"idleTimeout": True},
        {"idleTimeout": 10**30},
        {"maxInstances": 9},
        {"maxInstances": 0},
        {"vllmArgs": 7},
        {"vllmArgs": "--api-key x"},
        {"vllmArgs": "'unclosed"},
        {"vllmArgs": "x" * 5000},
        {"vllmArgs": "\ud800"},
        {"\ud800": 1},
    ],
)
def test_an_override_that_cannot_be_used_is_refused(override: dict[str, object]) -> None:
    @story
    async def refused() -> None:
        async with deployment() as world, world.http(content_type="application/json") as http:
            refusal(await http.patch(ONE, content=json.dumps(override)), 400, "invalid_model")
            assert world.models.rows[MODEL].override == {}

    refused()


@pytest.mark.parametrize("body", ["[]", "null", "7", '"idleTimeout"'])
def test_an_override_that_is_no_object_is_refused(body: str) -> None:
    @story
    async def refused() -> None:
        async with deployment() as world, world.http(content_type="application/json") as http:
            refusal(await http.patch(ONE, content=body), 400)
            assert world.models.rows[MODEL].override == {}

    refused()


@story
async def test_what_is_pulumis_is_refused_with_the_way_to_change_it() -> None:
    async with deployment() as world, world.http() as http:
        for key, value in (("instanceTypes", ["p5.48xlarge"]), ("market", "spot"), ("name", "x"), ("repository", None)):
            error = refusal(await http.patch(ONE, json={key: value, "idleTimeout": 900}), 400, "invalid_model")
            assert error["param"] == key
            assert "`pulumi config set" in error["message"]
        assert world.models.rows[MODEL].override == {}


@story
async def test_a_change_that_lost_a_race_is_a_conflict() -> None:
    async with deployment() as world, world.http() as http:
        world.models.broken.fail("set_override", Stale(MODEL))
        refusal(await http.patch(ONE, json={"idleTimeout": 900}), 409, "conflict")
        refusal(await http.patch("/api/models/org/modle", json={"idleTimeout": 900}), 404, "model_not_found")


# -- keys


@story
async def test_a_key_is_shown_once_and_opens_the_door() -> None:
    async with deployment() as world, world.http() as http:
        created = await http.post("/api/keys", json={"name": " laptop "})
        assert created.status_code == 201
        key = created.json()["key"]
        assert (created.json()["name"], created.json()["email"]) == ("laptop", "ann@example.com")
        listed = await http.get("/api/keys")
        assert key not in listed.text
        mine = next(entry for entry in listed.json()["keys"] if entry["name"] == "laptop")
        assert key.startswith(mine["prefix"])
        assert len(mine["prefix"]) < 10
        assert mine["last_used_at"] is None
        assert (await http.get("/v1/models", headers={"authorization": f"Bearer {key}"})).status_code == 200


@story
async def test_a_revoked_key_is_dead_at_once_where_it_was_revoked() -> None:
    async with deployment() as world, world.http() as http:
        created = (await http.post("/api/keys", json={"name": "lost"})).json()
        auth = {"authorization": f"Bearer {created['key']}"}
        assert (await http.get("/v1/models", headers=auth)).status_code == 200
        assert (await http.delete(f"/api/keys/{created['key_id']}")).status_code == 204
        refusal(await http.get("/v1/models", headers=auth), 401, "invalid_api_key")
        refusal(await http.delete(f"/api/keys/{created['key_id']}"), 404, "not_found")


@story
async def test_the_keys_of_others_are_neither_listed_nor_revoked() -> None:
    async with deployment() as world, world.http() as http:
        world.people.entrance.allow("olga@example.com", "*@example.com")  # the caller owns nothing here
        created = (await http.post("/api/keys", json={"name": "mine"})).json()
        (row,) = [row for row in world.keys.rows.values() if row.id == created["key_id"]]
        world.keys.rows[row.key_hash] = type(row)(row.key_hash, "bob@example.com", row.name, row.created_at, row.prefix)
        assert [key["name"] for key in (await http.get("/api/keys")).json()["keys"]] == ["story"]
        refusal(await http.delete(f"/api/keys/{row.id}"), 404, "not_found")
        assert row.key_hash in world.keys.rows


@story
async def test_a_key_shows_what_its_month_may_cost_and_what_it_has_cost() -> None:
    async with deployment() as world, world.http() as http:
        made = (await http.post("/api/keys", json={"name": "thrifty", "monthly_budget_usd": 2})).json()
        scope = f"key:{made['key_id']}"
        assert made["budget"] == {
            "scope": scope,
            "limit": 2_000_000,
            "hard_cap": 2_400_000,
            "warn_at": 1_600_000,
            "spent": 0,
            "state": "ok",
        }
        world.limits.rows[scope] = Limit(scope, 1, 1)  # the owner's word goes before the key's own
        await asyncio.sleep(31)
        budgets = {key["name"]: key["budget"] for key in (await http.get("/api/keys")).json()["keys"]}
        assert budgets["story"] is None
        assert budgets["thrifty"]["limit"] == 1


@story
async def test_a_key_is_made_and_told_where_nobody_knows_what_was_spent() -> None:
    async with deployment() as world, world.http() as http:
        world.usage.broken.fail("bills", Unavailable("throttled"), times=99)
        refusal(await http.put("/api/budgets/speculative", json={"monthly_usd": 1}), 503)  # reads all anew, in vain
        made = await http.post("/api/keys", json={"name": "anyhow", "monthly_budget_usd": 2})
        assert (made.status_code, made.json()["budget"]) == (201, None)
        assert made.json()["key"].startswith("dio-")


@story
async def test_no_key_is_made_with_another_while_nobody_knows_whether_the_owner_limits_that_one() -> None:
    async with deployment() as world, world.http() as http:
        known = len((await http.get("/api/keys")).json()["keys"])
        world.limits.broken.fail("list", Unavailable("throttled"))
        refusal(await http.post("/api/keys", json={"name": "anyhow"}), 503)
        assert len((await http.get("/api/keys")).json()["keys"]) == known


@story
async def test_a_key_needs_a_name_of_sensible_length() -> None:
    async with deployment() as world, world.http(content_type="application/json") as http:
        for body in ({}, {"name": ""}, {"name": "  "}, {"name": "x" * 65}, {"name": 7}, {"name": "x", "email": "bob"}):
            refusal(await http.post("/api/keys", json=body), 400)
        refusal(await http.post("/api/keys", content='{"name": "\\ud800"}'), 400)
        assert len(world.keys.rows) == 1


@story
async def test_a_key_revoked_twice_at_once_is_a_404_for_the_slower() -> None:
    async with deployment() as world, world.http() as http:
        created = (await http.post("/api/keys", json={"name": "twice"})).json()
        world.keys.broken.fail("revoke", Stale("gone"))
        refusal(await http.delete(f"/api/keys/{created['key_id']}"), 404, "not_found")


@story
async def test_the_openapi_document_names_every_management_route() -> None:
    async with deployment() as world, world.http() as http:
        paths = (await http.get("/api/openapi.json")).json()["paths"]
        assert {"/api/cluster", "/api/cluster/scale", "/api/models", "/api/keys", "/v1/models", "/healthz"} <= set(
            paths
        )
