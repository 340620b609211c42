"""The night watch as the load balancer calls it: one event in, one buffered answer out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import pytest
from mangum.handlers import ALB
from mangum.protocols import HTTPCycle

from control_plane.api_keys import ApiKeys, Grant
from control_plane.boots import Boot
from control_plane.errors import NoCapacity, Stale, Unavailable
from control_plane.gateway import Gateway
from control_plane.night import Night, night_app
from control_plane.ports import FrontState
from control_plane.settings import InvalidSettings
from control_plane.waking import Pace
from tests.night.deployment import GROUP, Deployment
from tests.night.deployment import MODEL as MODEL  # the simulation takes it from here

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Answer:
    """What the load balancer gets back."""

    status: int
    headers: Mapping[str, list[str]]
    body: str

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@asynccontextmanager
async def asleep(**model: object) -> AsyncIterator[tuple[Deployment, str]]:
    """The deployment and a key."""
    world = Deployment()
    await world.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g5.xlarge"], **model})
    key = await _key(world)
    yield world, key


async def _key(world: Deployment, grant: Grant | None = None, *, entropy: bytes = b"k") -> str:
    keys = ApiKeys(world.keys, clock=world.clock, entropy=lambda size: entropy * size)
    key, _ = await keys.create(email="ann@example.com", name="laptop", grant=grant)
    return key


async def call(
    app: Gateway,
    method: str,
    path: str,
    *,
    key: str = "",
    body: object = None,
    query: Mapping[str, list[str]] | None = None,
    **headers: str,
) -> Answer:
    """As Mangum does it, on the running loop."""
    sent = {name.replace("_", "-"): [value] for name, value in headers.items()}
    event: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": "arn:…:night"}},
        "httpMethod": method,
        "path": path,
        "multiValueQueryStringParameters": query or {},
        "multiValueHeaders": {"host": ["x"], **({"authorization": [f"Bearer {key}"]} if key else {}), **sent},
        "body": "" if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }
    config: Any = {"api_gateway_base_path": "/", "text_mime_types": ["application/json"], "exclude_headers": []}
    context: Any = object()
    alb = ALB(event, context, config)
    cycle = HTTPCycle(alb.scope, alb.body)
    await cycle.run(app)
    told = alb({"status": cycle.status, "headers": cycle.headers, "body": cycle.body})
    return Answer(told["statusCode"], told["multiValueHeaders"], told["body"])


async def test_a_question_wakes_all_and_is_sent_to_the_same_address_again() -> None:
    async with asleep() as (world, key):
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK, query={"a": ["b c"]})
        assert answer.status == 307
        assert answer.headers["location"] == ["/v1/chat/completions?a=b+c"]
        assert answer.headers["cache-control"] == ["no-store"]
        assert answer.code == "model_starting"
        assert (world.front.front.state, world.stage.desired, world.stage.facing) == (FrontState.AWAKE, 1, True)
        assert [launch.model for launch in world.cloud.launches] == [MODEL]
        assert [node.model for node in await world.nodes.list()] == [MODEL]


async def test_a_start_longer_than_one_hold_is_bridged_by_another() -> None:
    async with asleep() as (world, key):
        world.stage.start_s = 100
        app, began = world.app(), world.clock()
        for hop in range(3):
            answer = await call(app, "POST", "/v1/chat/completions", key=key, body=ASK)
            assert answer.status == 307
            assert world.clock() - began <= 46 * (hop + 1)
        assert world.stage.facing
        assert len(world.cloud.launches) == 1


async def test_a_question_that_is_sent_on_again_and_again_counts_once() -> None:
    async with asleep() as (world, _):
        key = await _key(world, Grant(requests_per_minute=1), entropy=b"r")
        world.stage.start_s = 200
        app = world.app()
        for _ in range(5):  # each is back at once
            assert (await call(app, "POST", "/v1/chat/completions", key=key, body=ASK)).status == 307
        assert world.stage.facing
        another = {**ASK, "temperature": 0}
        assert (await call(app, "POST", "/v1/chat/completions", key=key, body=another)).status == 307  # minutes later
        yet_another = await call(app, "POST", "/v1/chat/completions", key=key, body={**ASK, "temperature": 1})
        assert (yet_another.status, yet_another.code) == (429, "rate_limit_exceeded")


async def test_the_control_plane_that_comes_up_takes_over_without_a_wait() -> None:
    async with asleep() as (world, key):
        await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert await world.fence.seen_at() == 0.0


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/chat/completions", ASK, {"authorization": "Bearer dio-nobody"}, 401),
        ("/v1/chat/completions", {"model": MODEL}, {}, 400),
        ("/v1/chat/completions", {**ASK, "model": "other"}, {}, 404),
        ("/v1/chat/completions", ASK, {"x_diogenes_wait": "soon"}, 400),
        ("/api/cluster/scale", {"model": "other", "desired": 1}, {}, 404),
        ("/v1/unknown", {}, {}, 404),
    ],
)
async def test_what_is_wrong_wakes_nothing(path: str, body: object, headers: dict[str, Any], status: int) -> None:
    async with asleep() as (world, key):
        given = "" if "authorization" in headers else key
        answer = await call(world.app(), "POST", path, key=given, body=body, **headers)
        assert answer.status == status
        assert world.front.history == []
        assert not world.wishes.rows
        assert not world.cloud.launches


async def test_another_method_wakes_nothing_and_names_the_right_one() -> None:
    async with asleep() as (world, key):
        answer = await call(world.app(), "GET", "/v1/chat/completions", key=key)
        assert (answer.status, answer.headers["allow"]) == (405, ["POST"])
        assert world.front.history == []


@pytest.mark.parametrize("path", ["/v1/models", "/api/cluster", "/api/models", "/api/keys", "/healthz"])
async def test_reading_is_answered_from_the_tables_and_wakes_nothing(path: str) -> None:
    async with asleep() as (world, key):
        answer = await call(world.app(), "GET", path, key=key)
        assert answer.status == 200
        assert (world.front.history, world.wishes.rows, world.cloud.launches) == ([], {}, [])


async def test_a_wake_by_hand_sets_all_going_and_holds_nobody() -> None:
    async with asleep() as (world, key):
        began = world.clock()
        answer = await call(world.app(), "POST", "/api/cluster/scale", key=key, body={"model": MODEL, "desired": 1})
        assert answer.status == 202
        assert world.clock() == began
        assert (world.front.front.state, world.stage.desired) == (FrontState.WAKING, 1)
        assert len(world.cloud.launches) == 1


async def test_putting_a_model_to_sleep_wakes_nothing() -> None:
    async with asleep() as (world, key):
        answer = await call(world.app(), "POST", "/api/cluster/scale", key=key, body={"model": MODEL, "desired": 0})
        assert answer.status == 202
        assert world.front.history == []


async def test_a_refused_launch_reaches_the_client_with_its_true_status_and_at_once() -> None:
    async with asleep() as (world, key):
        for zone in GROUP.zones:
            world.cloud.refusals[GROUP.name, zone] = NoCapacity("InsufficientInstanceCapacity", "none left")
        began = world.clock()
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert (answer.status, answer.code) == (503, "no_gpu_capacity")
        assert answer.headers["x-should-retry"] == ["false"]
        assert world.clock() - began < 30  # each turn of the loop counts as a second here; a hold would be 45
        again = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert again.code == "no_gpu_capacity"
        assert len(world.cloud.launches) == len(GROUP.zones)


async def test_a_client_that_follows_nothing_is_told_to_come_back() -> None:
    async with asleep() as (world, key):
        answer = await call(
            world.app(), "POST", "/v1/chat/completions", key=key, body=ASK, user_agent="pydantic-ai/2.68.0"
        )
        assert (answer.status, answer.code) == (503, "model_starting")
        assert answer.headers["retry-after"] == ["5"]
        assert answer.headers["x-should-retry"] == ["true"]


async def test_a_client_that_will_not_wait_gets_its_answer_at_once_and_the_start_goes_on() -> None:
    async with asleep() as (world, key):
        began = world.clock()
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK, x_diogenes_wait="0")
        assert (answer.status, answer.code) == (503, "model_starting")
        assert world.clock() - began <= 1
        assert world.stage.desired == 1


async def test_who_has_too_little_left_to_be_held_is_not_sent_on() -> None:
    """They would be here again at once, until their redirects are used up."""
    async with asleep() as (world, key):
        world.stage.never = True
        pace = Pace(poll_s=4.0)
        app = night_app(world.settings, world.outside, world.fronts, clock=world.clock, sleep=world.sleep, pace=pace)
        answer = await call(app, "POST", "/v1/chat/completions", key=key, body=ASK, x_diogenes_wait="3")
        assert (answer.status, answer.code) == (503, "model_starting")


async def test_an_anthropic_client_reads_its_own_shape() -> None:
    async with asleep() as (world, key):
        answer = await call(
            world.app(), "POST", "/v1/messages", body={**ASK, "max_tokens": 5}, x_api_key=key, x_diogenes_wait="0"
        )
        assert json.loads(answer.body)["error"]["type"] == "overloaded_error"


async def test_two_questions_at_once_start_one_node() -> None:
    async with asleep() as (world, key):
        asking = [call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK) for _ in range(5)]
        assert {answer.status for answer in await asyncio.gather(*asking)} == {307}
        assert len(world.cloud.launches) == 1


async def test_where_a_control_plane_is_at_work_it_alone_launches() -> None:
    async with asleep() as (world, key):
        await world.fence.take("task-1")
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert answer.status == 307
        assert world.cloud.launches == []
        assert world.wishes.rows[MODEL].by == "ann@example.com"


async def test_a_launch_that_another_tick_stood_in_the_way_of_is_made_up_for() -> None:
    """That tick may have looked before the wish was written."""
    async with asleep() as (world, key):
        world.fence.broken.fail("take_over", Stale("another's tick"), times=2)
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert answer.status == 307
        assert len(world.cloud.launches) == 1


async def never(*_: object, **__: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def test_aws_that_says_nothing_holds_nobody_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the function's time limit would cut the request, without a word."""
    async with asleep() as (world, key):
        monkeypatch.setattr(world.stage, "look", never)
        monkeypatch.setattr(world.cloud, "launch", never)
        app = night_app(
            world.settings, world.outside, world.fronts, clock=world.clock, sleep=world.sleep, pace=Pace(hold_s=0.05)
        )
        answer = await call(app, "POST", "/v1/chat/completions", key=key, body=ASK)
        assert answer.status == 307
        scaled = await call(app, "POST", "/api/cluster/scale", key=key, body={"model": MODEL, "desired": 1})
        assert scaled.status in (200, 202)


async def test_what_is_told_to_come_back_hears_how_long_starts_take() -> None:
    async with asleep() as (world, key):
        world.models.rows[MODEL] = replace(world.models.rows[MODEL], boots=(Boot(95.0),))
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK, x_diogenes_wait="0")
        assert json.loads(answer.body)["error"]["eta_s"] == 95.0


async def test_tables_that_cannot_be_read_are_told_as_such() -> None:
    async with asleep() as (world, key):
        world.wishes.broken.fail("ask")
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert (answer.status, answer.code) == (503, "aws_unavailable")


async def test_a_front_that_cannot_be_seen_for_a_moment_loses_nobody() -> None:
    async with asleep() as (world, key):
        world.stage.broken.fail("look", Unavailable("ECS"), times=3)
        world.stage.broken.fail("want", Unavailable("ECS"))
        answer = await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        assert answer.status == 307
        assert world.stage.facing


def test_a_function_without_a_listener_does_not_start() -> None:
    with pytest.raises(InvalidSettings, match="DIOGENES_LISTENER_ARN"):
        Night({})


# -- events


async def test_what_a_call_did_is_in_the_log_before_the_process_is_frozen() -> None:
    async with asleep() as (world, key):
        await call(world.app(), "POST", "/v1/chat/completions", key=key, body=ASK)
        told = [(str(event.kind), event.cause) for event in world.events.kept]
        assert told[0] == ("model-woken", "ann@example.com")
        assert ("front-moved", "night watch") in told
        assert ("node-launched", "night watch") in told


async def test_a_log_that_cannot_be_written_costs_no_call() -> None:
    async with asleep() as (world, key):
        world.events.broken.fail("add", times=9)
        app = world.app()
        assert (await call(app, "POST", "/v1/chat/completions", key=key, body=ASK)).status == 307
        assert (await call(app, "GET", "/v1/models", key=key)).status == 200
        assert world.events.kept == []


async def test_events_are_read_while_it_sleeps_and_not_streamed() -> None:
    async with asleep() as (world, key):
        app = world.app()
        await call(app, "POST", "/api/keys", key=key, body={"name": "second"})
        told = await call(app, "GET", "/api/events", key=key, query={"kind": ["key-created"]})
        (event,) = json.loads(told.body)["events"]
        assert (event["cause"], event["id"]) == ("ann@example.com", "000000000001")
        refused = await call(app, "GET", "/api/events/stream", key=key)
        assert (refused.status, refused.code) == (503, "asleep_no_stream")
        assert world.front.front.state is FrontState.ASLEEP


@pytest.mark.parametrize("path", ["/api/cluster/scale", f"/api/models/{MODEL}/prewarm"])
async def test_a_strangers_order_sets_nothing_going_though_a_wish_stands(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asleep() as (world, key):
        app = world.app()
        scaled = await call(app, "POST", "/api/cluster/scale", key=key, body={"model": MODEL, "desired": 1})
        assert scaled.status == 202
        moves, launches, reads = len(world.front.history), len(world.cloud.launches), world.keys.lists
        world.front.front = replace(world.front.front, state=FrontState.ASLEEP)

        async def read(*_: object) -> NoReturn:
            raise AssertionError("a table was read for a stranger")

        for store in (world.wishes, world.nodes, world.models, world.launches):
            monkeypatch.setattr(store, "list", read)
        monkeypatch.setattr(world.front, "read", read)
        for stranger in ("", "dio-nobody"):
            refused = await call(app, "POST", path, key=stranger, body={"model": MODEL, "desired": 1})
            assert refused.status == 401
        assert (len(world.front.history), len(world.cloud.launches), world.keys.lists) == (moves, launches, reads)


async def test_when_a_key_was_used_is_written_with_the_call_and_a_failure_of_it_is_no_failure_of_the_call() -> None:
    async with asleep() as (world, key):
        app = world.app()
        world.keys.broken.fail("used", Unavailable("throttled"))
        assert (await call(app, "GET", "/v1/models", key=key)).status == 200
        (row,) = world.keys.rows.values()
        assert not row.last_used_at
        assert (await call(app, "GET", "/v1/models", key=key)).status == 200
        (row,) = world.keys.rows.values()
        assert row.last_used_at == world.clock()
