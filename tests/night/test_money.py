"""Money while everything sleeps: usage is told, and a budget refuses before anything is woken."""

from __future__ import annotations

import json

import pytest

from control_plane.books import Bill, BillKind, Limit, Tally
from control_plane.errors import Unavailable
from control_plane.janitor import clean
from control_plane.ledger import cost
from control_plane.nodes import Cause
from control_plane.ports import FrontState
from control_plane.usage import slice_name
from tests.night.deployment import Deployment
from tests.night.test_night import ASK, MODEL, asleep, call

ANN = "ann@example.com"


def nothing_woke(world: Deployment) -> bool:
    return world.front.front.state is FrontState.ASLEEP and not (world.wishes.rows or world.cloud.launches)


async def test_usage_is_told_and_wakes_nothing() -> None:
    async with asleep() as (world, key):
        now = world.clock()
        bill = Bill("i-1", BillKind.NODE, now - 3600, now - 1800, 1_000_000, model=MODEL, cause=Cause(ANN, "k"))
        await world.usage.close(bill)
        await world.usage.add([Tally(ANN, slice_name(now - 3000), MODEL, "k", "i-1", requests=2)], writer="w", number=1)
        answer = await call(world.app(), "GET", "/api/usage", key=key, query={"by": ["model"]})
        assert answer.status == 200
        told = json.loads(answer.body)
        assert (told["total"]["micro_usd"], told["total"]["requests"]) == (cost(bill), 2)
        assert [row["model"] for row in told["rows"]] == [MODEL]
        budgets = json.loads((await call(world.app(), "GET", "/api/budgets", key=key)).body)["budgets"]
        assert next(each["spent"] for each in budgets if each["scope"] == "deployment") == cost(bill)
        assert nothing_woke(world)


async def test_where_nothing_runs_the_cluster_tells_of_nothing_however_old_the_functions_process_is() -> None:
    async with asleep() as (world, key):
        app = world.app()
        world.clock.step(3600)
        told = json.loads((await call(app, "GET", "/api/cluster", key=key)).body)
        assert told["run"] is None


async def test_a_question_beyond_the_budget_is_refused_and_wakes_nothing() -> None:
    async with asleep() as (world, key):
        world.limits.rows["deployment"] = Limit("deployment", 100_000, 200_000)
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert (answer.status, answer.code) == (403, "budget_exceeded")
        prewarm = await call(world.app(), "POST", f"/api/models/{MODEL}/prewarm", key=key)
        assert (prewarm.status, prewarm.code) == (403, "budget_exceeded")
        assert nothing_woke(world)


async def test_a_model_that_is_picked_is_started_and_the_control_plane_woken() -> None:
    async with asleep() as (world, key):
        answer = await call(world.app(), "POST", f"/api/models/{MODEL}/prewarm", key=key)
        assert (answer.status, json.loads(answer.body)["status"]) == (202, "starting")
        (launch,) = world.cloud.launches
        assert launch.cause.speculative
        assert world.stage.desired == 1


async def test_the_janitor_reads_no_month_where_a_control_plane_is_at_work() -> None:
    async with asleep() as (world, _):
        world.usage.broken.fail("bills")
        await world.fence.take("task-1")
        front = world.outside.front
        assert front
        assert not (await clean(world.settings, world.outside, front, clock=world.clock)).acted
        with pytest.raises(Unavailable, match="bills"):
            await world.usage.bills("2026-11")  # nobody met it


async def test_a_spend_that_cannot_be_known_refuses_for_a_while_and_wakes_nothing() -> None:
    async with asleep() as (world, key):
        world.usage.broken.fail("bills", times=9)
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert (answer.status, answer.code) == (503, "aws_unavailable")
        assert nothing_woke(world)
