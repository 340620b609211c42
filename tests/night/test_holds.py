"""A crowd before a control plane that sleeps: so many are held, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from control_plane.api_keys import Grant
from control_plane.errors import NoCapacity, Unavailable
from control_plane.gateway import Gateway
from control_plane.holds import LASTS_S, Slot
from control_plane.ports import FrontState
from control_plane.quotas import NEW_EXECUTIONS, most_holds
from control_plane.settings import Settings
from tests.night.deployment import GROUP, MODEL, Deployment
from tests.night.test_night import ASK, Answer, _key, asleep, call, never
from tests.night.test_waking import LoopClock, Virtual
from tests.stories.virtual import story

CHAT = "/v1/chat/completions"
MOST = Settings().max_holds


async def ask(app: Gateway, key: str, **headers: Any) -> Answer:
    return await call(app, "POST", CHAT, key=key, body=ASK, **headers)


def crowd(world: Deployment, *, left_s: float = LASTS_S) -> None:
    """Others are held already, as many as may be."""
    slots = [Slot(f"other-{number}", world.clock() + left_s) for number in range(MOST)]
    world.holds.slots = {slot.holder: slot for slot in slots}


# -- who finds no slot


async def test_of_a_crowd_so_many_are_held_and_the_others_told_at_once_when_to_come_back() -> None:
    async with asleep() as (world, key):
        answers = await asyncio.gather(*(ask(world.app(), key) for _ in range(MOST + 5)))
        held = [answer for answer in answers if answer.status == 307]
        told = [answer for answer in answers if answer.status == 503]
        assert (len(held), len(told)) == (MOST, 5)
        assert {answer.code for answer in told} == {"model_starting"}
        assert {answer.headers["retry-after"][0] for answer in told} == {"59"}
        assert {answer.headers["x-should-retry"][0] for answer in told} == {"true"}
        assert (world.holds.peak, world.holds.slots) == (MOST, {})
        assert len(world.cloud.launches) == 1


async def test_whoever_is_not_held_left_a_wish_and_set_all_going_without_a_wait() -> None:
    """Those who took the slots may be dead."""
    async with asleep() as (world, key):
        crowd(world)
        began = world.clock()
        answer = await ask(world.app(), key)
        assert (answer.status, answer.code) == (503, "model_starting")
        assert "as many requests wait for it as can be held" in answer.body
        assert world.clock() == began
        assert world.wishes.rows[MODEL].hold_until == began + world.settings.cancel_grace_s > began + 59
        assert (world.front.front.state, world.stage.desired) == (FrontState.WAKING, 1)
        assert [launch.model for launch in world.cloud.launches] == [MODEL]
        assert (len(world.holds.slots), world.holds.writes) == (MOST, 1)


async def test_a_library_that_comes_back_as_it_is_told_is_held_or_finds_it_awake() -> None:
    async with asleep() as (world, key):
        crowd(world)
        assert (await ask(world.app(), key)).headers["retry-after"] == ["59"]
        world.clock.step(59)
        crowd(world, left_s=30)
        assert (await ask(world.app(), key)).status == 503
        world.clock.step(59)
        assert (await ask(world.app(), key)).status == 307
        assert world.stage.facing


@pytest.mark.parametrize(("turned_s", "retry_s"), [(0, "30"), (19.5, "11"), (29.5, "1"), (45, "1")])
async def test_once_the_listener_turned_the_turn_is_all_there_is_to_wait_for(turned_s: float, retry_s: str) -> None:
    async with asleep() as (world, key):
        await ask(world.app(), key)
        assert world.front.front.state is FrontState.AWAKE
        world.clock.now = world.front.front.since + turned_s
        crowd(world)
        assert (await ask(world.app(), key)).headers["retry-after"] == [retry_s]


async def test_a_question_that_was_told_to_come_back_counts_once() -> None:
    async with asleep() as (world, _):
        key = await _key(world, Grant(requests_per_minute=1), entropy=b"r")
        app = world.app()
        crowd(world)
        assert (await ask(app, key)).code == "model_starting"
        world.clock.step(58)
        crowd(world)
        assert (await ask(app, key)).code == "model_starting"


async def test_how_long_starts_take_is_told_and_anthropics_clients_read_their_own_shape() -> None:
    async with asleep() as (world, key):
        crowd(world)
        assert json.loads((await ask(world.app(), key)).body)["error"]["eta_s"] is None
        answer = await call(world.app(), "POST", "/v1/messages", body={**ASK, "max_tokens": 5}, x_api_key=key)
        assert (answer.status, answer.headers["retry-after"]) == (503, ["59"])
        assert json.loads(answer.body)["error"]["type"] == "overloaded_error"


async def test_a_crowd_is_no_reason_to_keep_a_failure_from_anybody() -> None:
    async with asleep() as (world, key):
        for zone in GROUP.zones:
            world.cloud.refusals[GROUP.name, zone] = NoCapacity("InsufficientInstanceCapacity", "none left")
        app = world.app()
        assert (await ask(app, key)).code == "no_gpu_capacity"
        crowd(world)
        assert (await ask(app, key)).code == "no_gpu_capacity"


# -- a slot is free again


async def test_one_that_ran_out_is_free() -> None:
    async with asleep() as (world, key):
        crowd(world, left_s=20)
        world.clock.step(19)
        assert (await ask(world.app(), key)).status == 503
        world.clock.step(1)
        assert (await ask(world.app(), key)).status == 307
        assert world.holds.slots == {}


async def test_it_lasts_for_as_long_as_its_execution_can_and_no_longer() -> None:
    async with asleep() as (world, key):
        world.stage.never = True
        began = world.clock()
        holding = asyncio.create_task(ask(world.app(), key))
        while not world.holds.slots:  # noqa: ASYNC110 - each turn of the loop is its turn
            await asyncio.sleep(0)
        (slot,) = world.holds.slots.values()
        assert slot.until == began + LASTS_S
        assert (await holding).status == 307
        assert world.clock() < slot.until


@pytest.mark.parametrize(
    ("what", "headers", "status"),
    [
        ("it is awake", {}, 307),
        ("the hold is over", {}, 307),
        ("the client waits no longer", {"x_diogenes_wait": "20"}, 503),
        ("the client follows nothing", {"user_agent": "pydantic-ai/2"}, 503),
        ("there is no GPU", {}, 503),
        ("the control plane does not start", {}, 503),
    ],
)
async def test_it_is_given_back_however_the_hold_ends(what: str, headers: dict[str, str], status: int) -> None:
    async with asleep() as (world, key):
        world.stage.start_s = 1000 if what in ("the hold is over", "the client waits no longer") else 20
        world.stage.dies_s = 10 if what == "the control plane does not start" else 0
        if what == "there is no GPU":
            for zone in GROUP.zones:
                world.cloud.refusals[GROUP.name, zone] = NoCapacity("InsufficientInstanceCapacity", "none left")
        assert (await ask(world.app(), key, **headers)).status == status
        assert world.holds.slots == {}
        assert (world.holds.peak, world.holds.writes) == (1, 2)


async def test_a_hold_that_is_cancelled_gives_it_back() -> None:
    async with asleep() as (world, key):
        world.stage.never = True
        holding = asyncio.create_task(ask(world.app(), key))
        while not world.holds.slots:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        holding.cancel()
        with suppress(asyncio.CancelledError):
            await holding
        assert world.holds.slots == {}


# -- who takes none


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("GET", "/api/cluster", None),
        ("GET", "/api/keys", None),
        ("POST", "/api/keys", {"name": "second"}),
        ("POST", "/api/cluster/scale", {"model": MODEL, "desired": 1}),
        ("POST", f"/api/models/{MODEL}/prewarm", None),
        ("POST", CHAT, {"model": MODEL}),
        ("POST", CHAT, {**ASK, "model": "other"}),
    ],
)
async def test_whoever_is_not_held_asks_for_none_and_is_answered_in_a_crowd(
    method: str, path: str, body: object
) -> None:
    async with asleep() as (world, key):
        crowd(world)
        assert (await call(world.app(), method, path, key=key, body=body)).status in (200, 201, 202, 400, 404)
        assert world.holds.writes == 0


async def test_a_client_that_will_not_wait_takes_none() -> None:
    async with asleep() as (world, key):
        crowd(world)
        answer = await ask(world.app(), key, x_diogenes_wait="0")
        assert (answer.code, answer.headers["retry-after"]) == ("model_starting", ["5"])
        assert world.holds.writes == 0


# -- a table that fails


async def test_a_table_that_does_not_take_it_turns_nobody_away() -> None:
    async with asleep() as (world, key):
        crowd(world)
        world.holds.broken.fail("take", Unavailable("throttled"))
        answer = await ask(world.app(), key)
        assert answer.status == 307
        assert world.stage.facing
        assert len(world.holds.slots) == MOST


async def test_a_slot_of_which_nobody_knows_whether_it_was_taken_is_given_back() -> None:
    async with asleep() as (world, key):
        world.holds.broken.lose_reply("take")
        assert (await ask(world.app(), key)).status == 307
        assert (world.holds.peak, world.holds.slots) == (1, {})


async def test_one_that_cannot_be_given_back_costs_its_client_nothing_and_runs_out() -> None:
    async with asleep() as (world, key):
        world.holds.broken.fail("give_back", Unavailable("throttled"))
        assert (await ask(world.app(), key)).status == 307
        (left,) = world.holds.slots.values()
        world.front.front = replace(world.front.front, state=FrontState.ASLEEP)
        world.clock.now = left.until
        crowd(world, left_s=0)
        world.holds.slots |= {left.holder: left}
        assert (await ask(world.app(), key)).status == 307
        assert world.holds.slots == {}


@story
async def test_a_table_that_says_nothing_holds_nobody_up() -> None:
    world = Virtual(clock=LoopClock())
    await world.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g5.xlarge"]})
    key = await _key(world)
    world.holds.take = world.holds.give_back = never  # type: ignore[method-assign]
    began = world.clock()
    answer = await ask(world.app(), key)
    assert answer.status == 307
    assert world.stage.start_s < world.clock() - began < world.stage.start_s + 10


# -- how many


def test_a_new_account_keeps_four_free_and_a_larger_one_a_tenth() -> None:
    assert [most_holds(executions) for executions in (NEW_EXECUTIONS, 50, 1000)] == [6, 45, 900]
    assert Settings().max_holds == most_holds(NEW_EXECUTIONS)
