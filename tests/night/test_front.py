"""What is mended at a look, for every state and everything that AWS may show."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from control_plane.errors import Stale, Unavailable
from control_plane.front import (
    FALL_LIMIT_S,
    MOVES,
    REST_S,
    WAKE_LIMIT_S,
    Doorkeeper,
    Face,
    Move,
    Step,
    Want,
    correction,
    resting,
)
from control_plane.ports import Ending, Front, FrontState, Stage
from gpu_node.protocol import Failure
from tests.memory import FakeClock
from tests.night.stage import MemoryFront, MemoryStage

ASLEEP, WAKING, AWAKE, FALLING = FrontState
NOW = 1000.0
LINGER_S = 10.0
DOWN = Stage(desired=0, healthy=False, facing_control_plane=False)
STARTING = Stage(desired=1, healthy=False, facing_control_plane=False)
STARTED = Stage(desired=1, healthy=True, facing_control_plane=False)
UP = Stage(desired=1, healthy=True, facing_control_plane=True)
BROKEN = Stage(desired=1, healthy=False, facing_control_plane=True)


@pytest.mark.parametrize(
    ("state", "stage", "wanted", "steps"),
    [
        (ASLEEP, DOWN, False, []),
        (ASLEEP, DOWN, True, [Move(WAKING)]),
        (FALLING, UP, True, [Move(AWAKE)]),
        (FALLING, STARTING, True, [Move(WAKING)]),
        (WAKING, DOWN, True, [Want(1)]),
        (WAKING, STARTING, True, []),
        (WAKING, STARTED, True, [Face(True), Move(AWAKE)]),
        (WAKING, UP, True, [Move(AWAKE)]),
        (WAKING, BROKEN, True, [Face(False)]),
        (AWAKE, UP, False, []),
        (AWAKE, STARTED, False, [Face(True)]),
        (AWAKE, BROKEN, False, [Face(False), Move(WAKING)]),
        (AWAKE, DOWN, False, [Want(1), Move(WAKING)]),
        (FALLING, UP, False, [Face(False)]),
        (FALLING, STARTED, False, []),
        (ASLEEP, UP, False, [Face(False), Want(0)]),
        (ASLEEP, STARTED, False, [Want(0)]),
    ],
)
def test_one_look_mends_this(state: FrontState, stage: Stage, wanted: bool, steps: list[Step]) -> None:
    assert correction(Front(state, 1, NOW - LINGER_S), stage, wanted=wanted, now=NOW, linger_s=LINGER_S) == steps


def test_a_task_that_was_healthy_when_it_was_woken_is_not_trusted_at_once() -> None:
    """It may be the one that was told to end a moment ago."""
    woken = Front(WAKING, 5, NOW - 1)
    assert correction(woken, STARTED, wanted=True, now=NOW, linger_s=LINGER_S) == []
    assert correction(woken, STARTED, wanted=True, now=NOW + LINGER_S, linger_s=LINGER_S) == [Face(True), Move(AWAKE)]


def given_up(front: Front, stage: Stage = STARTING, *, wanted: bool = True, endings: int = 0) -> Failure | None:
    """Why one look does so, if it does."""
    ended = [Ending("It is broken.", "Mend it."), *[Ending("It was broken.", "Mend it then.")] * endings][:endings]
    steps = correction(front, stage, wanted=wanted, now=NOW, linger_s=LINGER_S, endings=ended)
    moves = [step for step in steps if isinstance(step, Move) and step.target is ASLEEP]
    assert not moves or steps == [*moves, Want(0)]
    return moves[0].failure if moves else None


@pytest.mark.parametrize("wanted", [True, False])
def test_a_task_that_never_gets_healthy_is_given_up_whoever_wants_it(wanted: bool) -> None:
    """ECS would start it for ever, each try costs, and none takes what was mended since."""
    hopeless = Front(WAKING, 5, NOW - WAKE_LIMIT_S - 1)
    failure = given_up(hopeless, replace(STARTING, last_word="unable to assume the role"), wanted=wanted)
    assert failure
    assert failure.code == "control_plane_not_starting"
    assert failure.message.endswith("ECS says: unable to assume the role")
    assert not failure.permanent
    assert not given_up(hopeless, STARTED, wanted=wanted)
    assert not given_up(Front(WAKING, 5, NOW - WAKE_LIMIT_S), wanted=wanted)


def test_one_whose_tasks_end_again_and_again_is_given_up_long_before() -> None:
    waking = Front(WAKING, 5, NOW - 90)
    failure = given_up(waking, endings=3)
    assert failure
    assert "3 of its tasks ended within 90 s of the wake, the last one so: It is broken." in failure.message
    assert failure.fix == "Mend it."
    assert not given_up(waking, endings=2)
    assert not given_up(waking, STARTED, endings=3)


def test_after_a_wake_that_failed_one_task_that_ends_is_enough() -> None:
    again = Front(WAKING, 7, NOW - 30, failure=Failure("x", "Broken."), failed_at=NOW - 100)
    assert given_up(again, endings=1)
    assert not given_up(again)


def test_what_was_given_up_rests_and_can_then_be_woken_again() -> None:
    failure = Failure("x", "Broken.")
    rests = Front(ASLEEP, 6, NOW - REST_S + 1, failure=failure, failed_at=NOW - REST_S + 1)
    assert resting(rests, NOW) is failure
    assert correction(rests, STARTING, wanted=True, now=NOW, linger_s=LINGER_S) == [Want(0)]
    rested = replace(rests, failed_at=NOW - REST_S)
    assert resting(rested, NOW) is None
    assert correction(rested, DOWN, wanted=True, now=NOW, linger_s=LINGER_S) == [Move(WAKING)]
    left_over = correction(rested, STARTING, wanted=True, now=NOW, linger_s=LINGER_S)
    assert left_over == [Want(0), Move(WAKING)]  # so that the next look names the newest definition
    assert resting(replace(rests, state=WAKING), NOW) is None


@pytest.mark.parametrize(
    ("state", "stage", "steps"),
    [
        (AWAKE, BROKEN, [Face(False), Move(FALLING)]),
        (AWAKE, STARTING, [Move(FALLING)]),
        (AWAKE, UP, []),
        (WAKING, STARTING, [Move(ASLEEP), Want(0)]),
        (WAKING, STARTED, [Face(True), Move(AWAKE)]),
    ],
)
def test_a_task_that_is_gone_and_that_nothing_needs_is_not_waited_for_again(
    state: FrontState, stage: Stage, steps: list[Step]
) -> None:
    front = Front(state, 1, NOW - LINGER_S)
    assert correction(front, stage, wanted=False, needed=False, now=NOW, linger_s=LINGER_S) == steps
    waited = correction(front, stage, wanted=False, needed=True, now=NOW, linger_s=LINGER_S)
    assert waited == correction(front, stage, wanted=True, needed=False, now=NOW, linger_s=LINGER_S)
    assert not {Move(FALLING), Move(ASLEEP)} & set(waited)


def test_a_wake_that_nothing_needs_goes_on_to_its_reason_where_tasks_end_and_while_one_may_just_be_ending() -> None:
    ended = [Ending("It is broken.", "Mend it.")]
    waking = Front(WAKING, 5, NOW - 90)
    assert correction(waking, STARTING, wanted=False, needed=False, now=NOW, linger_s=LINGER_S, endings=ended) == []
    given_up = correction(waking, STARTING, wanted=False, needed=False, now=NOW, linger_s=LINGER_S, endings=ended * 3)
    (move, want) = given_up
    assert isinstance(move, Move)
    assert (move.failure is not None, want) == (True, Want(0))
    woken = Front(WAKING, 5, NOW - 1)
    assert correction(woken, STARTED, wanted=False, needed=False, now=NOW, linger_s=LINGER_S) == []


async def test_whether_anything_needs_a_task_is_read_only_where_none_is_healthy() -> None:
    clock = FakeClock()
    asked = list[FrontState]()

    async def needed() -> bool:
        asked.append(front.front.state)
        return False

    for state, stage in itertools.product(FrontState, (MemoryStage(clock), MemoryStage(clock, start_s=0, desired=1))):
        front = MemoryFront(Front(state, 5, clock()))
        keeper = Doorkeeper(front, stage, clock=clock, linger_s=LINGER_S, needed=needed)
        await keeper.look(wanted=True)
        front.front = Front(state, 5, clock())
        await keeper.look(wanted=False)
    assert asked == [WAKING, AWAKE]


def test_a_fall_that_nobody_ends_is_ended() -> None:
    fallen = Front(FALLING, 3, NOW - FALL_LIMIT_S - 1)
    assert correction(fallen, STARTED, wanted=False, now=NOW, linger_s=LINGER_S) == [Move(ASLEEP)]


@pytest.mark.parametrize("stage", [Stage(*each) for each in itertools.product((0, 1, 2), (True, False), (True, False))])
@pytest.mark.parametrize("state", FrontState)
@pytest.mark.parametrize("wanted", [True, False])
def test_every_step_is_legal_and_nothing_ever_faces_a_task_that_is_not_healthy(
    state: FrontState, stage: Stage, wanted: bool
) -> None:
    steps = correction(Front(state, 1, NOW), stage, wanted=wanted, now=NOW, linger_s=LINGER_S)
    assert Face(True) not in steps or stage.healthy
    assert sum(isinstance(step, Move) for step in steps) <= 1
    assert all(step.target in MOVES[state] for step in steps if isinstance(step, Move))


async def _settled(front: MemoryFront, stage: MemoryStage, clock: FakeClock, *, wanted: bool) -> None:
    keeper = Doorkeeper(front, stage, clock=clock, linger_s=LINGER_S)
    for _ in range(200):
        await keeper.look(wanted=wanted)
        clock.step(1)


@pytest.mark.parametrize("state", FrontState)
@pytest.mark.parametrize("desired", [0, 1])
@pytest.mark.parametrize("facing", [True, False])
async def test_whatever_was_left_behind_somebody_who_waits_gets_there(
    state: FrontState, desired: int, facing: bool
) -> None:
    clock = FakeClock()
    front = MemoryFront(Front(state, 5, clock()))
    stage = MemoryStage(clock, desired=desired, facing=facing)
    await _settled(front, stage, clock, wanted=True)
    assert (front.front.state, stage.desired, stage.facing) == (AWAKE, 1, True)


@pytest.mark.parametrize("state", [ASLEEP, FALLING])
@pytest.mark.parametrize("facing", [True, False])
async def test_a_sleep_that_somebody_began_comes_to_its_end(state: FrontState, facing: bool) -> None:
    clock = FakeClock()
    front = MemoryFront(Front(state, 5, clock()))
    stage = MemoryStage(clock, desired=1, facing=facing)
    await _settled(front, stage, clock, wanted=False)
    assert (front.front.state, stage.desired, stage.facing) == (ASLEEP, 0, False)


async def test_a_count_that_came_too_late_is_raised_again() -> None:
    """Falling asleep, the old task sets 0 after somebody woke it: whoever waits sets 1 at the next look."""
    clock = FakeClock()
    front, stage = MemoryFront(), MemoryStage(clock)
    keeper = Doorkeeper(front, stage, clock=clock, linger_s=LINGER_S)
    await keeper.look(wanted=True)
    await keeper.look(wanted=True)
    await stage.want(0)
    await keeper.look(wanted=True)
    assert stage.desired == 1


async def test_a_lost_race_changes_nothing() -> None:
    clock = FakeClock()
    front, stage = MemoryFront(), MemoryStage(clock)
    front.broken.fail("move", Stale("raced"))
    assert (await Doorkeeper(front, stage, clock=clock, linger_s=LINGER_S).look(wanted=True)).state is ASLEEP
    assert stage.desired == 0


@pytest.mark.parametrize("method", ["look", "want", "face"])
async def test_an_aws_that_does_not_answer_is_told_and_mended_later(method: str) -> None:
    clock = FakeClock()
    front = MemoryFront(Front(WAKING, 1, clock() - LINGER_S))
    stage = MemoryStage(clock, start_s=0)
    if method == "face":
        await stage.want(1)
    stage.broken.fail(method)
    with pytest.raises(Unavailable):
        await Doorkeeper(front, stage, clock=clock, linger_s=LINGER_S).look(wanted=True)
    assert front.front.state is WAKING
    await _settled(front, stage, clock, wanted=True)
    assert front.front.state is AWAKE
