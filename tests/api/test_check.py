"""A configuration that is thought about: whether it fits, what it costs, what AWS must allow; and nothing happens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from control_plane.hub import Access, Reading
from control_plane.rates import Sizes, node_rate
from tests.api.asking import awake, nothing_happened, refusal
from tests.geometries import LLAMA_8B_LONG
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment

CHECK = f"/api/models/{MODEL}/check"
EIGHT_B = dict(LLAMA_8B_LONG)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


async def checked(http: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    reply = await http.post(CHECK, json=changed)
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


@story
async def test_each_machine_is_judged_with_its_arithmetic_its_price_and_its_quota() -> None:
    async with deployment(geometry=EIGHT_B, maxInstances=2) as world, world.http() as http:
        told = await checked(
            http,
            instanceTypes=["g6.xlarge", "g6e.xlarge"],
            market="spot-then-on-demand",
            vllmArgs="--max-model-len 65536",
        )
        small, large = told["machines"]
        assert (small["answer"], large["answer"]) == ("no", "yes")
        assert "GiB too few; a --max-model-len of up to" in small["reason"]
        assert 0 < small["kv_cache_tokens"] < small["context_tokens"] == 65536
        assert large["kv_cache_tokens"] > 65536
        assert (small["gpu"], small["gpus"]) == ("L4", 1)
        assert small["usd_per_h"] == node_rate("g6.xlarge", Sizes()).per_hour / 1e6
        assert [(quota["market"], quota["code"], quota["vcpus"]) for quota in large["quotas"]] == [
            ("spot", "L-3819A6DF", 8),
            ("on-demand", "L-DB2E81BA", 8),
        ]
        assert told["cheapest"]["usd_per_h"] <= large["usd_per_h"]
        assert told["start_usd"] > 0
        assert told["problems"] == []
        assert nothing_happened(world)
        assert world.models.rows[MODEL].override == {}


@story
async def test_what_is_not_named_stays_and_null_is_what_pulumi_has() -> None:
    async with deployment(geometry=EIGHT_B, vllmArgs="--max-model-len 4096") as world, world.http() as http:
        assert (await http.patch(f"/api/models/{MODEL}", json={"vllmArgs": "--max-model-len 8192"})).status_code == 200
        contexts = [
            (await checked(http, **changed))["machines"][0]["context_tokens"]
            for changed in ({}, {"vllmArgs": None}, {"vllmArgs": "--max-model-len 2048"})
        ]
        assert contexts == [8192, 4096, 2048]


@story
async def test_what_cannot_be_used_is_told_key_by_key() -> None:
    async with deployment(geometry=EIGHT_B) as world, world.http() as http:
        told = await checked(http, idleTimeout=0, instanceTypes=["g6.xlarge", "huge"], market="free")
        assert {problem["key"] for problem in told["problems"]} == {"idleTimeout", "instanceTypes[1]", "market"}
        assert (told["machines"], told["cheapest"], told["start_usd"]) == ([], None, None)
        for words in ("--max-model-len lots", f"--max-num-seqs {10**30}", f"--max-model-len {'9' * 400}"):
            (problem,) = (await checked(http, vllmArgs=words))["problems"]
            assert problem["key"] == "vllmArgs"
            assert words.split()[0] in problem["message"]


@story
async def test_what_the_engine_would_refuse_is_told_with_the_argument() -> None:
    async with deployment(geometry=EIGHT_B) as world, world.http() as http:
        (machine,) = (await checked(http, vllmArgs="--tensor-parallel-size 4"))["machines"]
        assert (machine["answer"], machine["flag"]) == ("no", "--tensor-parallel-size")
        assert machine["kv_cache_tokens"] is None


@story
async def test_a_machine_that_nobody_knows_has_neither_price_nor_verdict() -> None:
    async with deployment(geometry=EIGHT_B) as world, world.http() as http:
        (machine,) = (await checked(http, instanceTypes=["z9.large"]))["machines"]
        assert (machine["answer"], machine["usd_per_h"], machine["gpu"], machine["quotas"]) == (
            "unknown",
            None,
            None,
            [],
        )
        assert "neither its GPUs nor its price" in machine["reason"]


@pytest.mark.parametrize("types", [["z9.large"], ["g6.xlarge", "z9.large"]])
def test_a_start_on_a_machine_of_unknown_price_has_no_price(types: list[str]) -> None:
    @story
    async def told_nothing() -> None:
        async with deployment(geometry=EIGHT_B) as world, world.http() as http:
            assert (await checked(http, instanceTypes=types))["start_usd"] is None
            assert (await checked(http, instanceTypes=["g6.xlarge"]))["start_usd"] > 0

    told_nothing()


@story
async def test_without_a_hub_and_numbers_the_price_is_known_and_the_verdict_is_not() -> None:
    async with deployment() as world, world.http() as http:
        told = await checked(http)
        (machine,) = told["machines"]
        assert (machine["answer"], machine["reason"]) == ("unknown", "no story asks the hub")
        assert machine["usd_per_h"] > 0
        assert told["cheapest"] is None


@story
async def test_the_hub_is_asked_once_for_what_a_repository_says_of_itself() -> None:
    async with deployment() as world, world.http() as http:
        world.shape = Reading(Access.READ, "", config=LLAMA)
        for words in ("", "--enforce-eager", "--max-num-seqs 16"):
            (machine,) = (await checked(http, vllmArgs=words))["machines"]
            assert (machine["answer"], machine["context_tokens"]) == ("yes", 8192)
        assert world.shapes_read == 1


@story
async def test_a_start_that_was_seen_tells_how_long_one_takes() -> None:
    async with awake(geometry=EIGHT_B, instanceTypes=["g6.xlarge"]) as world, world.http() as http:
        await asyncio.sleep(5)
        (machine,) = (await checked(http))["machines"]
        (node,) = world.nodes.rows.values()
        assert machine["usual_start_s"] == pytest.approx(node.ready_at - node.launched_at, abs=0.1)
        (other,) = (await checked(http, instanceTypes=["g5.xlarge"]))["machines"]
        assert other["usual_start_s"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("[]", 400),
        ("7", 400),
        ("{", 400),
        ('{"name": "other"}', 400),
        ('{"size": 3}', 400),
        ('{"\\ud800": 3}', 400),
        ('{"vllmArgs": "\\ud800"}', 400),
        (json.dumps({"geometry": EIGHT_B | {"parameters": 10**18}}), 200),
    ],
)
def test_a_body_that_cannot_be_meant_is_no_fault_of_ours(body: str, status: int) -> None:
    @story
    async def refused() -> None:
        async with deployment() as world, world.http(content_type="application/json") as http:
            reply = await http.post(CHECK, content=body)
            assert reply.status_code == status, reply.text
            if status == 400:
                refusal(reply, 400)
            else:
                assert reply.json()["problems"]
            assert nothing_happened(world)

    refused()


@story
async def test_who_may_not_come_in_checks_nothing_and_an_unknown_model_is_a_404() -> None:
    async with deployment() as world, world.http() as http:
        refusal(await http.post("/api/models/org/modle/check", json={}), 404, "model_not_found")
        refusal(await http.post(CHECK, json={}, headers={"authorization": "Bearer dio-typo"}), 401)
        limited = (await http.post("/api/keys", json={"name": "few", "requests_per_minute": 5})).json()["key"]
        refusal(await http.post(CHECK, json={}, headers={"authorization": f"Bearer {limited}"}), 403, "key_is_limited")


@pytest.mark.parametrize("elsewhere", [{"repository": "ann/private"}, {"revision": "secret"}])
def test_only_an_owner_has_another_repository_looked_at(elsewhere: dict[str, str]) -> None:
    @story
    async def guarded() -> None:
        async with deployment() as world, world.http() as http, world.control_plane() as plane:
            world.shape = Reading(Access.READ, "", config=LLAMA)
            key, _ = await plane.keys.create(email="bob@example.com", name="bob")
            async with world.http(authorization=f"Bearer {key}") as bob:
                refusal(await bob.post(CHECK, json=elsewhere), 403, "owner_only")
                assert world.shapes_read == 0
                (machine,) = (await checked(bob, **dict.fromkeys(elsewhere)))["machines"]  # what Pulumi has
                assert machine["answer"] == "yes"
            await checked(http, **elsewhere)
            assert world.shapes_read == 2

    guarded()
