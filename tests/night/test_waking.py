"""Long wakes: what whoever waits sees until the control plane is there, or cannot come; what AWS is asked meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.api_keys import Grant
from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.front import REST_S, WAKE_LIMIT_S
from control_plane.gateway import Gateway
from control_plane.janitor import EVERY_S, clean
from control_plane.night import night_app
from control_plane.nodes import NodeId
from control_plane.ports import FrontState, Term, Wish
from control_plane.settings import Settings
from gpu_node.protocol import Failure, NodeState
from tests.memory import FakeClock
from tests.night.deployment import MODEL, Deployment
from tests.night.test_night import ASK, Answer, _key, asleep, call
from tests.stories.virtual import story
from tests.unit.planning import node

CHAT = "/v1/chat/completions"
AIOHTTP_FOLLOWS = 9  # the tenth redirect ends it; 300 s in all do, too
HOLD_S = 45
NO_CAPACITY = Failure("no_gpu_capacity", "No g5.xlarge to be had.", "Try again later.")


async def asked(world: Deployment, app: Gateway, key: str, *, hops: int = 30, **headers: str) -> tuple[Answer, int]:
    """As a client that follows redirects; its answer, or the last 307, and how many it followed."""
    query: dict[str, list[str]] = {}
    for followed in range(hops):
        answer = await call(app, "POST", CHAT, key=key, body=ASK, query=query, **headers)
        if answer.status != 307 or world.stage.facing:
            return answer, followed
        end = answer.headers["location"][0].partition("?diogenes_wait_until=")[2]
        query = {"diogenes_wait_until": [end]} if end else {}
    return answer, hops


def kinds(world: Deployment) -> list[EventKind]:
    return [event.kind for event in world.events.kept]


async def rounds(world: Deployment, count: int) -> None:
    for _ in range(count):
        world.clock.step(EVERY_S)
        await clean(world.settings, world.outside, world.fronts, clock=world.clock)


# -- a control plane that does not start


async def test_whoever_waits_is_told_why_the_control_plane_does_not_start() -> None:
    async with asleep() as (world, key):
        world.stage.dies_s = 40
        began = world.clock()
        answer, _ = await asked(world, world.app(), key)
        assert (answer.status, answer.code) == (503, "control_plane_not_starting")
        assert answer.headers["x-should-retry"] == ["false"]
        assert "retry-after" not in answer.headers
        assert "3 of its tasks ended" in answer.body
        assert "CannotPullContainerError: no such image. Push it." in answer.body
        assert world.clock() - began <= 3 * 40 + 15  # not long after it is known
        failed = [event for event in world.events.kept if event.kind is EventKind.WAKE_FAILED]
        assert [(event.data["code"], event.data["fix"]) for event in failed] == [
            ("control_plane_not_starting", "Push it.")
        ]


async def test_a_task_that_hangs_is_told_of_with_the_services_last_word() -> None:
    async with asleep() as (world, key):
        world.stage.never = True
        world.stage.last_word = "(service x) was unable to place a task."
        began = world.clock()
        answer, _ = await asked(world, world.app(), key)
        assert answer.code == "control_plane_not_starting"
        assert "ECS says: (service x) was unable to place a task." in answer.body
        assert WAKE_LIMIT_S < world.clock() - began <= WAKE_LIMIT_S + 15


async def test_who_asks_right_after_it_is_told_at_once_and_nothing_is_begun() -> None:
    async with asleep() as (world, key):
        world.stage.dies_s = 40
        app = world.app()
        await asked(world, app, key)
        began, launches, moves = world.clock(), len(world.cloud.launches), len(world.front.history)
        again = await call(app, "POST", CHAT, key=key, body=ASK)
        assert again.code == "control_plane_not_starting"
        assert (world.clock(), world.wishes.rows) == (began, {})
        assert (len(world.cloud.launches), len(world.front.history)) == (launches, moves)
        scaled = await call(app, "POST", "/api/cluster/scale", key=key, body={"model": MODEL, "desired": 1})
        assert scaled.status == 202
        assert len(world.cloud.launches) == launches


async def test_no_second_gpu_is_bought_while_the_control_plane_cannot_start_and_the_first_goes() -> None:
    async with asleep() as (world, key):
        world.stage.dies_s = 40
        app = world.app()
        for _ in range(5):
            answer, _ = await asked(world, app, key)
            assert answer.code == "control_plane_not_starting"
            world.clock.step(REST_S + 1)
            await clean(world.settings, world.outside, world.fronts, clock=world.clock)
        assert len(world.cloud.launches) == 1
        await rounds(world, 6)
        assert {node.state for node in world.nodes.rows.values()} == {NodeState.TERMINATED}
        assert (world.front.front.state, world.stage.desired) == (FrontState.ASLEEP, 0)


async def test_the_janitor_launches_nothing_for_a_wish_while_the_last_wake_stands_as_failed() -> None:
    async with asleep() as (world, key):
        world.stage.dies_s = 40
        app = world.app()
        await asked(world, app, key)
        await rounds(world, 6)
        assert {node.state for node in world.nodes.rows.values()} == {NodeState.TERMINATED}
        told = await call(app, "POST", CHAT, key=key, body=ASK, x_diogenes_wait="0")
        assert told.code == "model_starting"
        await clean(world.settings, world.outside, world.fronts, clock=world.clock)
        assert len(world.cloud.launches) == 1


async def test_a_corrected_image_is_taken_though_somebody_asks_all_the_time() -> None:
    async with asleep() as (world, key):
        world.stage.dies_s = 40
        app = world.app()
        await asked(world, app, key)
        world.stage.corrected = True
        for _ in range(5):
            if not world.stage.facing:
                await asked(world, app, key)
                world.clock.step(20)
        assert (world.front.front.state, world.front.front.failure) == (FrontState.AWAKE, None)


async def test_of_many_who_wait_all_are_told_and_one_event_is_written() -> None:
    async with asleep() as (world, key):
        world.stage.dies_s = 40
        asking = [asked(world, world.app(), key) for _ in range(4)]
        answers = [answer for answer, _ in await asyncio.gather(*asking)]
        assert {answer.code for answer in answers} == {"control_plane_not_starting"}
        assert kinds(world).count(EventKind.WAKE_FAILED) == 1


# -- a wait that the client bounds


@pytest.mark.parametrize(
    ("wait_s", "wake_s", "status"), [(300, 100, 307), (120, 100, 307), (60, 200, 503), (30, 100, 503)]
)
async def test_a_bounded_wait_is_waited_through_and_no_longer(wait_s: int, wake_s: float, status: int) -> None:
    async with asleep() as (world, key):
        world.stage.start_s = wake_s
        began = world.clock()
        answer, _ = await asked(world, world.app(), key, x_diogenes_wait=str(wait_s))
        assert answer.status == status
        if status == 307:
            assert world.stage.facing
        else:
            assert (answer.code, answer.headers["retry-after"]) == ("model_starting", ["5"])
            assert wait_s - 3 <= world.clock() - began <= wait_s + 1


async def test_a_keys_own_wait_is_meant_in_all_whichever_process_answers() -> None:
    async with asleep() as (world, _):
        key = await _key(world, Grant(wait_s=100), entropy=b"w")
        world.stage.start_s = 500
        began, query = world.clock(), dict[str, list[str]]()
        for _ in range(9):
            answer = await call(world.app(), "POST", CHAT, key=key, body=ASK, query=query)  # each time a new process
            if answer.status != 307:
                break
            query = {"diogenes_wait_until": [answer.headers["location"][0].partition("=")[2]]}
        assert answer.code == "model_starting"
        assert 97 <= world.clock() - began <= 101


@pytest.mark.parametrize("value", ["", "soon", "-1", "9" * 5000])
async def test_an_end_that_is_no_time_is_refused_and_wakes_nothing(value: str) -> None:
    async with asleep() as (world, key):
        query = {"diogenes_wait_until": [value or "x"]}
        answer = await call(world.app(), "POST", CHAT, key=key, body=ASK, query=query, x_diogenes_wait="60")
        assert (answer.status, answer.code) == (400, "invalid_parameter")
        assert world.front.history == []


async def test_an_end_makes_no_wait_longer() -> None:
    async with asleep() as (world, key):
        world.stage.start_s = 100
        began = world.clock()
        query = {"diogenes_wait_until": [str(int(began) + 600)]}
        answer = await call(world.app(), "POST", CHAT, key=key, body=ASK, query=query, x_diogenes_wait="20")
        assert answer.code == "model_starting"
        assert world.clock() - began <= 21


# -- redirects


@pytest.mark.parametrize("wake_s", [60, 90, 135, 180, 225, 240, 265, 300])
@pytest.mark.parametrize("turn_s", [0, 5, 15, 30, 35])
async def test_a_slow_turn_of_the_listener_costs_few_redirects(wake_s: float, turn_s: float) -> None:
    """The listener's turn reaches the client's way to it so long after it was made."""
    async with asleep() as (world, key):
        world.stage.start_s = wake_s
        app, began, redirects = world.app(), world.clock(), 0
        while not world.stage.facing or world.clock() < world.front.front.since + turn_s:
            answer = await call(app, "POST", CHAT, key=key, body=ASK)
            assert answer.status == 307
            redirects += 1
        turned = world.front.front.since + turn_s
        assert redirects <= wake_s // HOLD_S + (4 if turn_s <= 30 else 5)
        if turned - began < 295 and turn_s <= 30:
            assert redirects <= AIOHTTP_FOLLOWS
        assert world.clock() - turned <= 2 + max(2.0, turn_s)  # nobody waits for much longer than the turn took


# -- what AWS is asked


class LoopClock(FakeClock):
    """As the running loop's, which jumps."""

    def __call__(self) -> float:
        return self.now + asyncio.get_running_loop().time()


class Virtual(Deployment):
    """Every process at its own pace, and one time for all."""

    def app(self) -> Gateway:
        return night_app(self.settings, self.outside, self.fronts, clock=self.clock)


async def calls_of(clients: int) -> tuple[int, int, int]:
    """In one hold of so many: looks at AWS, tries to launch while another reconciler acts, and answers with 307."""
    world = Virtual(clock=LoopClock(), settings=Settings(max_holds=clients))
    await world.models.seed(MODEL, {"name": MODEL, "instanceTypes": ["g5.xlarge"]})
    key = await _key(world)
    world.stage.start_s = 1000
    await world.fence.take("task")
    tries, take_over = 0, world.fence.take_over

    async def counted(holder: str, *, silent_s: float) -> Term:
        nonlocal tries
        tries += 1
        return await take_over(holder, silent_s=silent_s)

    world.fence.take_over = counted  # type: ignore[method-assign]
    asking = [call(world.app(), "POST", CHAT, key=key, body=ASK) for _ in range(clients)]
    answers = await asyncio.gather(*asking)
    return world.stage.looks, tries, sum(answer.status == 307 for answer in answers)


@story
async def test_those_who_wait_look_at_aws_for_each_other() -> None:
    alone, tries, answered = await calls_of(1)
    assert answered == 1
    assert alone <= HOLD_S + 3
    assert tries <= HOLD_S / 5 + 1
    together, tries, answered = await calls_of(10)
    assert answered == 10
    assert together <= alone + 20  # the first looks are each one's own
    assert tries <= 10 * (HOLD_S / 5 + 1)


# -- what others do meanwhile


async def at(world: Deployment, time: float) -> None:
    while world.clock() < time:  # noqa: ASYNC110 - time passes while others wait
        await asyncio.sleep(0)


async def test_a_refusal_that_another_reconciler_met_is_told_within_seconds() -> None:
    """A task that fell asleep drains for two minutes, and acts as long: it launches for whoever comes meanwhile."""
    async with asleep() as (world, key):
        await world.fence.take("task-1")
        began = world.clock()
        asking = asyncio.create_task(call(world.app(), "POST", CHAT, key=key, body=ASK))
        await at(world, began + 7)
        await world.models.refused(MODEL, NO_CAPACITY, at=world.clock())
        answer = await asking
        assert (answer.status, answer.code) == (503, NO_CAPACITY.code)
        assert world.clock() - began < 20


@pytest.mark.parametrize("order", [f"/api/models/{MODEL}/cancel", "/api/cluster/scale"])
async def test_who_is_held_is_told_that_the_start_was_cancelled_and_does_not_begin_it_again(order: str) -> None:
    async with asleep() as (world, key):
        began = world.clock()
        asking = asyncio.create_task(call(world.app(), "POST", CHAT, key=key, body=ASK))
        await at(world, began + 10)
        body = {"model": MODEL, "desired": 0} if order.endswith("scale") else None
        told = await call(world.app(), "POST", order, key=key, body=body)
        assert told.status == 202
        (node,) = world.nodes.rows.values()
        assert (node.state, node.id in world.cloud.terminated) == (NodeState.DRAINING, True), "it goes at once"
        answer = await asking
        assert (answer.status, answer.code) == (503, "start_cancelled")
        assert (world.wishes.rows[MODEL].desired, len(world.cloud.launches)) == (0, 1)


async def test_a_wish_that_cannot_be_read_after_a_hold_sends_its_client_on() -> None:
    async with asleep() as (world, key):
        began = world.clock()
        asking = asyncio.create_task(call(world.app(), "POST", CHAT, key=key, body=ASK))
        await at(world, began + 30)
        world.wishes.broken.fail("list", Unavailable("throttled"), times=9)
        assert (await asking).status == 307


async def test_a_second_node_that_cannot_start_refuses_nobody_where_one_serves() -> None:
    """Its only task died; the next one serves from the node that is there."""
    async with asleep(maxInstances=2) as (world, key):
        now = world.clock()
        world.nodes.rows[NodeId("i-1")] = node(
            model=MODEL, launched_at=now, ready_at=now, heartbeat_at=now, lease_until=now + 300
        )
        await world.models.refused(MODEL, NO_CAPACITY, at=world.clock())
        answer = await call(world.app(), "POST", CHAT, key=key, body=ASK)
        assert (answer.status, world.front.front.state) == (307, FrontState.AWAKE)
        world.nodes.rows.clear()
        assert (await call(world.app(), "POST", CHAT, key=key, body=ASK)).code == NO_CAPACITY.code


def test_keep_awake_is_nothing_to_stay_up_for_where_no_node_is_there() -> None:
    """It keeps what runs and starts nothing: a control plane that stayed up for it would do nothing for a day."""
    kept = Wish(MODEL, 1, 0.0, "ann@example.com", 0.0, keep_awake_until=1e9)
    assert not kept.stands(1.0)
