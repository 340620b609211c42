"""Budgets of a living control plane: many who ask at once, and keys whose month is spent."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from control_plane.api_keys import ApiKeys, Grant
from control_plane.books import BillKind, Limit
from control_plane.budget import start_cost
from control_plane.event import EventKind
from control_plane.ledger import cost
from control_plane.model import Model
from control_plane.nodes import NodeId
from control_plane.rates import Sizes, node_rate
from gpu_node.protocol import NodeState
from tests.api.asking import CHAT
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

IDLE_S = 60
RATE = node_rate("g5.xlarge", Sizes())
START = start_cost(Model.parse({"name": MODEL, "instanceTypes": ["g5.xlarge"], "idleTimeout": IDLE_S}), None, Sizes())

MONTH_USD = (RATE.at_launch + RATE.per_hour * 900 // 3600) / 1e6 + 0.05  # one start that idles out, and a little


async def key_of(world: World, email: str, usd: float | None = None) -> str:
    keys = ApiKeys(world.keys, clock=world.clock, entropy=os.urandom)
    made, _ = await keys.create(email=email, name="of a story", grant=Grant(monthly_budget_usd=usd))
    return made


async def ask(world: World, key: str, model: str = MODEL) -> tuple[int, str]:
    """Status, and the code of an error."""
    async with world.http(authorization=f"Bearer {key}") as http:
        reply = await http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": "hi"}]})
    return reply.status_code, reply.json().get("error", {}).get("code", "")


def billed(world: World) -> int:
    return sum(cost(bill) for bill in world.usage.closed.values() if bill.kind is BillKind.NODE)


@story
async def test_who_wake_models_at_the_same_time_overshoot_the_budget_by_a_minute_of_the_fleet_at_most() -> None:
    models = [MODEL, *(f"org/model-{number}" for number in range(2, 8))]
    async with deployment(idleTimeout=IDLE_S) as world:
        world.cloud.instance_type = "g5.xlarge"
        world.boot.machine_s, world.boot.load_s = 200.0, 98.0  # as long as is believed of a start that nobody saw
        for name in models[1:]:
            await world.add_model(name, idleTimeout=IDLE_S)
        limit = 3 * START + START // 2
        world.limits.rows["deployment"] = Limit("deployment", limit, 2 * limit)
        keys = [await key_of(world, f"somebody-{number}@example.com") for number in range(len(models))]
        await asyncio.sleep(40)  # the limit is known
        asked = [asyncio.create_task(ask(world, *both)) for both in zip(keys, models, strict=True)]
        most = 0
        while not all(task.done() for task in asked) or world.living:
            await asyncio.sleep(1)
            most = max(most, len(world.living))
        await asyncio.sleep(60)
        assert Counter(task.result() for task in asked) == {(200, ""): 3, (403, "budget_exceeded"): 4}
        assert len(world.cloud.launches) == most == 3
        assert len(world.usage.closed) == 3
        assert 2.9 * START < billed(world) <= limit + most * RATE.per_hour // 60


@story
async def test_a_key_beyond_its_hard_cap_loses_its_node_and_nobody_else_loses_theirs() -> None:
    async with deployment(idleTimeout=600) as world:
        world.cloud.instance_type = "g5.xlarge"
        await world.add_model("org/other", idleTimeout=600)
        key, other = await key_of(world, "ann@example.com", usd=MONTH_USD), await key_of(world, "bob@example.com")
        assert [await ask(world, key), await ask(world, other, "org/other")] == [(200, ""), (200, "")]
        mine = next(node.id for node in world.nodes.rows.values() if node.model == MODEL)
        answers, began = Counter[tuple[int, str]](), world.clock()
        while world.clock() < began + 2400:
            await asyncio.sleep(300)
            answers[await ask(world, key)] += 1
            assert await ask(world, other, "org/other") == (200, "")
        assert set(answers) == {(200, ""), (403, "budget_exceeded")}
        (bill,) = world.usage.closed.values()
        assert bill.id == mine
        # What both asked is paid by them; so is their node, until the cap and a minute of the fleet.
        assert cost(bill) <= 1.2 * MONTH_USD * 1e6 + 2 * RATE.per_hour // 60
        (drained,) = [event for event in world.events.kept if event.kind is EventKind.NODE_DRAINING]
        assert drained.message == f"Node {mine} drains: whoever still wants it has reached a hard cap."
        told = [event.kind for event in world.events.kept if str(event.data.get("scope")).startswith("key:")]
        assert told == [EventKind.BUDGET_WARNED, EventKind.BUDGET_REACHED, EventKind.BUDGET_EXCEEDED]
        assert [node.model for node in world.nodes.rows.values() if node.state is NodeState.READY] == ["org/other"]


@story
async def test_a_stream_of_a_key_that_reaches_its_cap_has_the_time_of_a_drain() -> None:
    async with deployment(idleTimeout=600) as world:
        world.cloud.instance_type = "g5.xlarge"
        world.behaviour.tokens, world.behaviour.token_s = ("x",) * 2000, 10.0
        key = await key_of(world, "ann@example.com", usd=MONTH_USD)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with world.http(authorization=f"Bearer {key}") as http:
            reply = await http.post(CHAT, json=body)
        assert "error" in reply.text
        assert reply.text.endswith("data: [DONE]\n\n")
        await world.until_gone(60.0)
        (event,) = [one for one in world.events.kept if one.kind is EventKind.NODE_DRAINING]
        cut_s = world.clock() - event.at
        assert world.settings.drain_timeout_s - 10 < cut_s < world.settings.drain_timeout_s + 90
        assert isinstance(event.node, str)
        assert NodeId(event.node) in world.usage.closed
