"""More than one node of a model: more while engines queue, fewer when load falls; conversations keep to their node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from control_plane.nodes import NodeId
from gpu_node.protocol import NodeState
from tests.api.asking import CHAT
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment


async def ask(world: World, words: str = "hi") -> str:
    """One conversation's question; who answered."""
    async with world.http() as http:
        body = {"model": MODEL, "messages": [{"role": "user", "content": words}], "stream": True}
        reply = await http.post(CHAT, json=body)
    assert reply.text.endswith("data: [DONE]\n\n")
    return str(reply.headers.get("x-diogenes-node", ""))  # none where the model had to be woken


def serving(world: World) -> Sequence[NodeId]:
    return [node.id for node in world.nodes.rows.values() if node.state is NodeState.READY]


async def loaded(world: World, *, at_once: int, seconds: float) -> None:
    """So many requests at any time, for so long."""
    until = world.clock() + seconds

    async def one(number: int) -> None:
        while world.clock() < until:
            await ask(world, f"conversation {number}")

    await asyncio.gather(*(one(number) for number in range(at_once)))


@story
async def test_a_queue_that_stays_brings_nodes_up_to_the_models_own_limit_and_never_more() -> None:
    async with deployment(maxInstances=3) as world:
        world.slots, world.behaviour.token_s = 2, 10.0
        load = asyncio.create_task(loaded(world, at_once=12, seconds=900))
        most = 0
        for _ in range(900):
            await asyncio.sleep(1)
            most = max(most, len(world.living))
        assert len(serving(world)) == most == 3
        await load


@story
async def test_one_node_is_enough_while_its_engine_does_not_queue() -> None:
    async with deployment(maxInstances=3) as world:
        world.slots, world.behaviour.token_s = 8, 10.0
        await loaded(world, at_once=8, seconds=600)
        assert len(world.cloud.launches) == 1


@story
async def test_when_load_falls_the_youngest_goes_first_and_no_answer_is_cut() -> None:
    async with deployment(maxInstances=3) as world:
        world.slots, world.behaviour.token_s = 2, 10.0
        await loaded(world, at_once=12, seconds=600)
        oldest_first = sorted(serving(world), key=lambda one: world.node(one).ready_at)
        assert len(oldest_first) == 3
        light = asyncio.create_task(loaded(world, at_once=1, seconds=1200))
        await asyncio.sleep(450)
        assert sorted(serving(world)) == sorted(oldest_first[:2])
        await asyncio.sleep(400)
        assert serving(world) == oldest_first[:1]
        await light


@story
async def test_conversations_keep_to_their_node() -> None:
    async with deployment(maxInstances=2) as world, world.http() as http:
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 2})
        await asyncio.sleep(120)
        assert len(serving(world)) == 2
        for number in range(8):
            assert len({await ask(world, f"conversation {number}") for _ in range(4)}) == 1
        assert len({await ask(world, f"conversation {number}") for number in range(12)}) == 2


@story
async def test_many_of_one_conversation_at_once_are_shared_out() -> None:
    async with deployment(maxInstances=2) as world, world.http() as http:
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 2})
        await asyncio.sleep(120)
        world.behaviour.token_s = 5.0
        by = await asyncio.gather(*(ask(world) for _ in range(10)))
        assert max(by.count(one) for one in set(by)) == 7  # an even share, and a quarter more


@story
async def test_a_model_kept_awake_grows_with_its_load_once_and_keeps_what_it_grew_to() -> None:
    async with deployment(maxInstances=2) as world, world.http() as http:
        world.slots, world.behaviour.token_s = 2, 10.0
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1})
        kept = await http.put(f"/api/models/{MODEL}/keep-awake", json={"until": world.clock() + 7200})
        assert kept.status_code == 200
        await world.until_ready()
        await loaded(world, at_once=8, seconds=1200)
        assert (len(world.cloud.launches), len(serving(world))) == (2, 2)
