"""What it cost, told by the API; and what a month may cost, refused before anything is spent."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from control_plane.books import Limit
from control_plane.budget import Allowance
from control_plane.ledger import cost
from control_plane.rates import Sizes, node_rate
from control_plane.settings import Settings
from tests.api.asking import ASK, CHAT, awake, nothing_happened, refusal
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

ANN = "ann@example.com"
OWNED = Settings()
SCALE = "/api/cluster/scale"
RATE = node_rate("g6.xlarge", Sizes())


async def rows(http: httpx.AsyncClient, by: str = "day", **query: str) -> dict[str, Any]:
    reply = await http.get("/api/usage", params={"by": by, **query})
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    for name in ("micro_usd", "requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"):
        assert sum(row[name] for row in told["rows"]) == told["total"][name]
    return told


async def gone(world: World) -> None:
    await world.until_gone(700)
    await asyncio.sleep(30)


@story
async def test_a_wake_is_told_by_day_model_key_and_owner_and_all_agree() -> None:
    async with awake(OWNED, idleTimeout=60) as world, world.http() as http:
        await gone(world)
        (bill,) = world.usage.closed.values()
        told = {by: await rows(http, by) for by in ("day", "model", "key", "owner")}
        assert {one["total"]["micro_usd"] for one in told.values()} == {cost(bill)}
        assert bill.micro_usd_per_hour == RATE.per_hour
        ((key_row,),) = (told["key"]["rows"],)
        (key,) = (await http.get("/api/keys")).json()["keys"]
        assert (key_row["key"], key_row["owner"]) == (key["key_id"], ANN)
        assert told["owner"]["rows"][0]["owner"] == ANN
        (model,) = told["model"]["rows"]
        assert (model["model"], model["requests"], model["prompt_tokens"], model["completion_tokens"]) == (
            MODEL,
            1,
            7,
            3,
        )
        assert model["gpu_seconds"] == pytest.approx(bill.ended_at - bill.started_at, abs=0.01)
        assert told["day"]["budget"]["scope"] == "deployment"
        assert told["day"]["budget"]["spent"] == cost(bill)


@story
async def test_what_runs_now_is_told_on_the_cluster_and_counted_already() -> None:
    async with awake(OWNED) as world, world.http() as http:
        await asyncio.sleep(200)
        cluster = (await http.get("/api/cluster")).json()
        (node,) = world.nodes.rows.values()
        lived_s = cluster["now"] - node.launched_at
        (model,) = cluster["models"]
        assert cluster["run"] == model["run"]
        assert cluster["run"]["started"] == node.launched_at
        assert cluster["run"]["usd_per_h"] == RATE.per_hour / 1e6
        assert cluster["run"]["micro_usd"] == pytest.approx(RATE.at_launch + RATE.per_hour * lived_s / 3600, abs=300)
        assert (await rows(http))["total"]["micro_usd"] == pytest.approx(cluster["run"]["micro_usd"], abs=300)


@story
async def test_a_day_is_one_of_the_zone_that_is_asked_for() -> None:
    async with awake(OWNED) as world, world.http() as http:
        day = datetime.fromtimestamp(world.clock(), UTC)
        for zone, name in (("UTC", day.strftime("%Y-%m-%d")), ("Pacific/Kiritimati", "2026-11-19")):
            told = await rows(http, zone=zone)
            assert (told["zone"], [row["day"] for row in told["rows"]]) == (zone, [name])
        nothing = await rows(http, **{"from": "2026-10-01", "to": "2026-10-31"})
        assert (nothing["rows"], nothing["total"]["micro_usd"]) == ([], 0)


@story
async def test_hours_are_told_with_their_offset_and_add_up_to_the_day() -> None:
    async with awake(OWNED) as world, world.http() as http:
        begun = datetime.fromtimestamp(world.clock(), ZoneInfo("Asia/Kolkata")).replace(minute=0, second=0)
        await asyncio.sleep(90)
        told = await rows(http, "hour", zone="Asia/Kolkata")
        assert told["rows"][0]["hour"] == begun.replace(microsecond=0).isoformat()
        assert told["rows"][0]["hour"].endswith(":00:00+05:30")
        assert told["total"]["completion_tokens"] == 3
        refusal(await http.get("/api/usage", params={"by": "hour", "from": "2026-01-01", "to": "2026-03-01"}), 400)


@story
async def test_csv_is_the_same_table() -> None:
    async with awake(OWNED) as _, _.http() as http:
        reply = await http.get("/api/usage", params={"by": "model", "format": "csv"})
        assert reply.headers["content-type"].startswith("text/csv")
        assert "usage-model-" in reply.headers["content-disposition"]
        table = list(csv.DictReader(io.StringIO(reply.text)))
        assert [row["model"] for row in table] == [MODEL, "total"]
        assert table[0]["micro_usd"] == table[1]["micro_usd"]


@story
async def test_others_see_themselves_and_the_owner_sees_all() -> None:
    async with awake(OWNED) as world, world.control_plane() as plane, world.http() as http:
        key, _ = await plane.keys.create(email="bob@example.com", name="bob")
        async with httpx.AsyncClient(base_url=world.url, headers={"x-api-key": key}, timeout=100) as bob:
            assert (await bob.post(CHAT, json=dict(ASK))).status_code == 200
            await asyncio.sleep(10)
            told = await rows(bob, "owner")
            assert [row["owner"] for row in told["rows"]] == ["bob@example.com"]
            assert told["budget"]["scope"] == "user:bob@example.com"
            refusal(await bob.get("/api/usage", params={"owner": ANN}), 403)
            refusal(await bob.put("/api/budgets/deployment", json={"monthly_usd": 1000}), 403)
            scopes = {each["scope"] for each in (await bob.get("/api/budgets")).json()["budgets"]}
            assert scopes == {"deployment", "speculative", "user:bob@example.com"} | {s for s in scopes if "key:" in s}
        assert {row["owner"] for row in (await rows(http, "owner"))["rows"]} == {ANN, "bob@example.com"}


@pytest.mark.parametrize(
    "query",
    [
        {"zone": "Mars/Olympus"}, {"zone": "../etc/passwd"}, {"from": "yesterday"}, {"by": "colour"}, {"format": "pdf"},
        {"from": "2026-12-01", "to": "2026-11-01"}, {"from": "1999-01-01"}, {"from": "2020-01-01", "to": "2026-01-01"},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_question_is_refused(query: dict[str, str]) -> None:
    @story
    async def refused() -> None:
        async with deployment(OWNED) as world, world.http() as http:
            refusal(await http.get("/api/usage", params=query), 400)

    refused()


@story
async def test_break_even_is_told_with_its_dated_source() -> None:
    async with awake(OWNED) as _, _.http() as http:
        await asyncio.sleep(10)
        told = (await http.get("/api/usage/break-even")).json()
        assert told["tokens"] == 10
        assert told["prices"]["date"]
        assert told["prices"]["source"]
        assert all(each["micro_usd"] < told["micro_usd"] and not each["cheaper_here"] for each in told["closed"])


# -- budgets


def spent(world: World, scope: str, usd: float, cap_usd: float | None = None) -> None:
    """A limit so low that what was spent already, nothing but a start, is beyond it."""
    world.limits.rows[scope] = Limit(scope, round(usd * 1e6), round((cap_usd or usd * 100) * 1e6))


@pytest.mark.parametrize("scope", ["deployment", f"user:{ANN}", "key"])
def test_a_start_beyond_a_budget_is_refused_before_anything_is_spent(scope: str) -> None:
    @story
    async def refused() -> None:
        async with deployment(OWNED) as world, world.http() as http:
            (row,) = world.keys.rows.values()
            spent(world, f"key:{row.id}" if scope == "key" else scope, 0.40)
            await asyncio.sleep(35)
            error = refusal(await http.post(CHAT, json=dict(ASK)), 403, "budget_exceeded")
            assert "0.40 $" in error["message"]
            assert "the owner can raise it on the Usage page" in error["message"]
            refusal(await http.post(SCALE, json={"model": MODEL, "desired": 1}), 403, "budget_exceeded")
            assert nothing_happened(world)

    refused()


@story
async def test_what_runs_serves_on_beyond_the_limit_and_warm_hours_and_keep_awake_end() -> None:
    async with awake(OWNED, idleTimeout=60) as world, world.http() as http:
        await http.put(f"/api/models/{MODEL}/keep-awake", json={"until": world.clock() + 20_000})
        await asyncio.sleep(30)
        reply = await http.put("/api/budgets/deployment", json={"monthly_usd": 0.01, "hard_cap_usd": 50})
        assert reply.json()["budget"]["state"] == "exhausted"
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200
        await world.until_gone(120)
        refusal(await http.post(CHAT, json=dict(ASK)), 403, "budget_exceeded")
        assert (await http.put("/api/budgets/deployment", json={"monthly_usd": None})).status_code == 200
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200


@story
async def test_at_the_hard_cap_streams_end_in_peace_and_nothing_new_is_served() -> None:
    async with awake(OWNED) as world, world.http() as http:
        world.behaviour.tokens, world.behaviour.token_s = ("t",) * 60, 1.0
        async with http.stream("POST", CHAT, json={**ASK, "stream": True}) as reply:
            lines = reply.aiter_lines()
            await anext(lines)
            await http.put("/api/budgets/deployment", json={"monthly_usd": 0.01, "hard_cap_usd": 0.01})
            refusal(await http.post(CHAT, json=dict(ASK)), 403, "budget_exceeded")
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        await world.until_gone(20)


@story
async def test_a_persons_cap_refuses_that_person_and_ends_what_nobody_else_wants() -> None:
    async with awake(OWNED) as world, world.http() as http:
        spent(world, f"user:{ANN}", 0.01, 0.01)
        await asyncio.sleep(35)
        refusal(await http.post(CHAT, json=dict(ASK)), 403, "budget_exceeded")
        await world.until_gone(20)


@story
async def test_what_is_being_read_when_a_budget_changes_does_not_bring_the_old_one_back() -> None:
    async with awake(OWNED) as world, world.http() as http:
        for usd in range(1, 40):  # some of them in the moment in which the facts are read again
            reply = await http.put("/api/budgets/deployment", json={"monthly_usd": usd})
            assert reply.json()["budget"]["limit"] == usd * 1_000_000
            await asyncio.sleep(2)
            budgets = (await http.get("/api/budgets")).json()["budgets"]
            assert next(each["limit"] for each in budgets if each["scope"] == "deployment") == usd * 1_000_000


@pytest.mark.parametrize(
    ("scope", "body"),
    [
        ("everybody", {"monthly_usd": 1}), ("user:", {"monthly_usd": 1}), ("deployment", {}),
        ("user:bob", {"monthly_usd": 1}), ("key:", {"monthly_usd": 1}),
        ("deployment", {"monthly_usd": -1}), ("deployment", {"monthly_usd": 10, "hard_cap_usd": 5}),
        ("deployment", {"monthly_usd": "much"}), ("deployment", {"monthly_usd": 1e9}),
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_budget_is_refused(scope: str, body: dict[str, Any]) -> None:
    @story
    async def refused() -> None:
        async with deployment(OWNED) as world, world.http() as http:
            refusal(await http.put(f"/api/budgets/{scope}", json=body), 400)
            assert not world.limits.rows

    refused()


@story
async def test_a_budget_binds_who_it_names() -> None:
    async with deployment(OWNED) as world, world.http() as http:
        reply = await http.put("/api/budgets/user:Bob@Example.com", json={"monthly_usd": 3})
        assert reply.json()["budget"]["scope"] == "user:bob@example.com"
        assert list(world.limits.rows) == ["user:bob@example.com"]
        refusal(await http.put("/api/budgets/key:nonesuch", json={"monthly_usd": 3}), 404)
        (row,) = world.keys.rows.values()
        assert (await http.put(f"/api/budgets/key:{row.id}", json={"monthly_usd": 3})).status_code == 200
        for scope in ("user:BOB@example.com", "key:nonesuch"):  # what was revoked is taken back all the same
            assert (await http.put(f"/api/budgets/{scope}", json={"monthly_usd": None})).status_code == 200
        assert list(world.limits.rows) == [f"key:{row.id}"]


# -- starts on speculation


@story
async def test_a_model_that_was_picked_starts_and_is_cancelled_if_nobody_asks() -> None:
    async with deployment(OWNED) as world, world.http() as http:
        world.boot.load_s = 600.0
        reply = await http.post(f"/api/models/{MODEL}/prewarm")
        assert (reply.status_code, reply.json()["status"]) == (202, "starting")
        await asyncio.sleep(5)
        assert len(world.living) == 1
        await gone(world)
        (bill,) = world.usage.closed.values()
        assert bill.cause.speculative
        budgets = {each["scope"]: each for each in (await http.get("/api/budgets")).json()["budgets"]}
        assert budgets["speculative"]["spent"] == budgets["deployment"]["spent"] == cost(bill)
        assert budgets["speculative"]["limit"] == Allowance().speculative_usd * 1e6


@story
async def test_speculation_beyond_its_budget_is_refused_and_a_question_is_not() -> None:
    async with deployment(OWNED) as world, world.http() as http:
        spent(world, "speculative", 0.10)
        await asyncio.sleep(35)
        refusal(await http.post(f"/api/models/{MODEL}/prewarm"), 403, "budget_exceeded")
        assert nothing_happened(world)
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200


@story
async def test_picking_a_model_that_runs_changes_nothing() -> None:
    async with awake(OWNED) as world, world.http() as http:
        assert (await http.post(f"/api/models/{MODEL}/prewarm")).json()["status"] == "ready"
        assert not any(wish.speculative for wish in world.wishes.rows.values())


# -- warm hours


@story
async def test_warm_hours_start_a_model_and_keep_it_until_they_end() -> None:
    async with deployment(OWNED, idleTimeout=60) as world, world.http() as http:
        begin = datetime.fromtimestamp(world.clock() + 600, UTC)
        hours = {"cron": f"{begin.minute} {begin.hour} * * *", "minutes": 30, "zone": "UTC"}
        reply = await http.patch(f"/api/models/{MODEL}", json={"warmHours": [hours]})
        assert reply.json()["effective"]["warmHours"] == [hours]
        await asyncio.sleep(500)
        assert not world.living
        node = await world.until_ready(300)
        assert world.node(node).cause.owner == "deployment"
        assert (await http.get(f"/api/models/{MODEL}")).json()["warm_since"] == begin.timestamp() // 60 * 60
        await asyncio.sleep(1500)
        assert world.living == [node]
        await world.until_gone(400)


@story
async def test_who_puts_a_warm_model_to_sleep_is_obeyed_until_the_next_hours() -> None:
    hours = [{"cron": "0 * * * *", "minutes": 50}]
    async with deployment(OWNED, idleTimeout=60, warmHours=hours) as world, world.http() as http:
        await world.until_ready(4000)
        await http.post(SCALE, json={"model": MODEL, "desired": 0})
        await gone(world)
        await asyncio.sleep(300)
        assert not world.living
        await world.until_ready(3700)


@story
async def test_warm_hours_start_nothing_beyond_the_budget() -> None:
    settings = replace(OWNED, monthly_budget_usd=0.4)
    async with deployment(settings, warmHours=[{"cron": "* * * * *", "minutes": 5}]) as world:
        await asyncio.sleep(600)
        assert not world.cloud.launches


@pytest.mark.parametrize(
    "hours",
    [
        "always", [{}], [{"cron": "0 9 * * *"}], [{"cron": "0 9 * *", "minutes": 5}],
        [{"cron": "* * * * * *", "minutes": 5}],
        [{"cron": "0 9 * * *", "minutes": 0}], [{"cron": "0 9 * * *", "minutes": 5, "zone": "Mars"}],
        [{"cron": "0 9 31 2 *", "minutes": 5}], [{"cron": "0 9 * * *", "minutes": 5}] * 9,
    ],
    ids=str,
)  # fmt: skip
def test_odd_warm_hours_are_refused(hours: Any) -> None:
    @story
    async def refused() -> None:
        async with deployment(OWNED) as world, world.http() as http:
            refusal(await http.patch(f"/api/models/{MODEL}", json={"warmHours": hours}), 400, "invalid_model")

    refused()
