"""The janitor and the front: the service's count, the listener, a task that crashes, AWS that hangs."""

from __future__ import annotations

import pytest

from control_plane.errors import Stale, Unavailable
from control_plane.event import EventKind
from control_plane.front import FALL_LIMIT_S, WAKE_LIMIT_S, Doorkeeper
from control_plane.ports import Front, FrontState, Launch, Wish
from control_plane.reconciler import ABANDONED_S
from control_plane.slumber import Slumber
from gpu_node.protocol import Failure
from tests.night.deployment import GROUP, MODEL, Deployment
from tests.night.test_janitor import cleaned, deployment, hung, launched, serving, told, wished
from tests.stories.virtual import story


async def test_a_service_that_should_be_0_is_set_so_and_reported() -> None:
    world = await deployment()
    world.stage.desired = 1
    await cleaned(world)
    assert world.stage.desired == 0
    assert told(world) == [(EventKind.TASKS_SET, "The number of the control plane's tasks was set to 0.")]


async def test_a_service_that_should_be_1_is_set_so_and_reported() -> None:
    world = await deployment()
    await wished(world)
    world.front.front = Front(FrontState.WAKING, 3, world.clock())
    await cleaned(world)
    assert world.stage.desired == 1
    assert told(world)[0] == (EventKind.TASKS_SET, "The number of the control plane's tasks was set to 1.")


async def test_weights_that_disagree_with_the_state_are_turned_and_reported() -> None:
    world = await deployment()
    world.stage.facing = True
    await cleaned(world)
    assert not world.stage.facing
    assert told(world) == [(EventKind.LISTENER_TURNED, "The listener was turned to the night watch.")]


async def test_the_listener_is_turned_away_from_a_task_that_died_and_the_state_with_it() -> None:
    world = await deployment()
    world.front.front = Front(FrontState.AWAKE, 3, world.clock())
    await wished(world)
    world.stage.desired, world.stage.never, world.stage.facing = 1, True, True
    found = await cleaned(world)
    assert (found.state, world.stage.facing) == ("waking", False)
    assert told(world)[:2] == [
        (EventKind.LISTENER_TURNED, "The listener was turned to the night watch."),
        (EventKind.FRONT_MOVED, "The control plane's state became waking."),
    ]


async def test_a_move_that_somebody_else_made_first_is_not_reported() -> None:
    world = await deployment()
    world.front.front = Front(FrontState.AWAKE, 3, world.clock())
    world.stage.desired, world.stage.never = 1, True
    world.front.broken.fail("move", Stale("raced"), times=2)
    await cleaned(world)
    assert world.events.kept == []


async def crashed(*, needed: bool) -> Deployment:
    """The task that the listener faces is gone, and acted until a moment ago."""
    world = await deployment()
    world.front.front = Front(FrontState.AWAKE, 3, world.clock())
    world.stage.desired, world.stage.facing = 1, True
    await world.stage.want(0)
    await world.stage.want(1)
    await world.fence.take("task-1")
    if needed:
        await serving(world)
    return world


@story
@pytest.mark.parametrize("method", ["groups", "seen_at"])
async def test_neither_what_says_nothing_nor_what_fails_keeps_it_from_the_front(method: str) -> None:
    world = await crashed(needed=True)
    world.clock.step(2 * ABANDONED_S)
    if method == "groups":
        world.cloud.groups = hung  # type: ignore[method-assign]
    else:
        world.fence.broken.fail(method)
    world.stage.never = True
    await wished(world)
    with pytest.raises(Unavailable):
        await cleaned(world)
    assert (world.front.front.state, world.stage.facing) == (FrontState.WAKING, False)


@story
async def test_a_wake_that_aws_keeps_waiting_for_its_nodes_has_its_task_ordered() -> None:
    world = await deployment()
    await wished(world)
    world.cloud.groups = hung  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await cleaned(world)
    assert (world.front.front.state, world.stage.desired) == (FrontState.WAKING, 1)


@story
async def test_a_front_that_is_not_shown_keeps_it_from_no_node_and_launches_nothing_after_a_failed_wake() -> None:
    world = await deployment()
    node = await launched(world)
    await wished(world)
    failure = Failure("control_plane_not_starting", "Broken.")
    world.front.front = Front(FrontState.ASLEEP, 4, failure=failure, failed_at=world.clock() - 1e6)
    world.cloud.vanish(node.id)
    world.stage.look = hung  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await cleaned(world)
    assert world.cloud.launches[1:] == []
    world.front.front = Front(FrontState.ASLEEP, 5)
    with pytest.raises(Unavailable):
        await cleaned(world)
    assert len(world.cloud.launches) == 2


async def test_a_wake_that_is_given_up_in_this_very_round_launches_nothing() -> None:
    world = await deployment()
    await wished(world)
    world.front.front = Front(FrontState.WAKING, 4, world.clock() - WAKE_LIMIT_S - 1)
    world.stage.desired, world.stage.never = 1, True
    found = await cleaned(world)
    assert (found.state, found.acted, world.cloud.launches) == ("asleep", True, [])


# -- a task that crashes


@pytest.mark.parametrize(
    ("needed", "state", "desired"), [(False, FrontState.FALLING_ASLEEP, 1), (True, FrontState.WAKING, 1)]
)
async def test_a_task_that_crashed_is_waited_for_again_only_where_something_needs_one(
    needed: bool, state: FrontState, desired: int
) -> None:
    world = await crashed(needed=needed)
    await cleaned(world)
    assert (world.front.front.state, world.stage.facing, world.stage.desired) == (state, False, desired)


@pytest.mark.parametrize("what", ["wish", "launch"])
async def test_what_needs_a_task_stands_in_the_tables(what: str) -> None:
    world = await crashed(needed=False)
    now = world.clock()
    if what == "wish":
        await wished(world)
    else:
        await world.launches.intend(Launch("t", MODEL, GROUP.name, "a", GROUP.market, now))
    assert (await cleaned(world)).state == FrontState.WAKING


async def test_a_wish_that_comes_while_it_falls_takes_that_back() -> None:
    world = await crashed(needed=False)
    await cleaned(world)
    await wished(world)
    await cleaned(world)
    assert (world.front.front.state, world.stage.desired) == (FrontState.WAKING, 1)
    world.clock.step(world.stage.start_s + 1)
    await cleaned(world)
    assert (world.front.front.state, world.stage.facing) == (FrontState.AWAKE, True)


async def test_without_a_task_that_ends_the_fall_it_ends_all_the_same() -> None:
    world = await crashed(needed=False)
    world.stage.never = True
    await cleaned(world)
    world.clock.step(FALL_LIMIT_S + 1)
    await cleaned(world)
    assert (world.front.front.state, world.stage.desired) == (FrontState.ASLEEP, 0)


@story
async def test_a_task_that_dies_every_five_minutes_sleeps_once_nothing_needs_it() -> None:
    """Each of its starts succeeds, so that no wake fails; and none lives until it is idle."""
    world = await crashed(needed=False)

    async def wanted() -> bool:
        return any(wish.stands(world.clock()) for wish in await world.wishes.list())

    def task() -> Slumber:
        keeper = Doorkeeper(world.front, world.stage, clock=world.clock, linger_s=10.0)
        return Slumber(keeper, lambda: False, wanted, clock=world.clock, idle_s=600, propagation_s=30, tick_s=5)

    async def life() -> None:
        """From one crash to the next, and the janitor at it."""
        await world.stage.want(0)
        await world.stage.want(1)
        await cleaned(world)
        world.clock.step(world.stage.start_s + 1)
        slumber = task()
        for _ in range(60):
            world.clock.step(5)
            await slumber.turn()

    world.clock.step(2 * ABANDONED_S)
    await world.wishes.ask(Wish(MODEL, 1, world.clock() + 1500, "ann@example.com", world.clock()))
    for _ in range(4):
        await life()
        assert (world.front.front.state, world.stage.facing) == (FrontState.AWAKE, True)
    world.wishes.rows.clear()
    world.nodes.rows.clear()
    await life()
    assert (world.front.front.state, world.stage.facing, world.stage.desired) == (FrontState.ASLEEP, False, 0)
    assert world.front.front.failure is None
