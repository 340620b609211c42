"""When an engine that has requests is suspected of doing nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpu_node.clock import SteadyClock
from gpu_node.progress import ProgressWatch

Look = tuple[float, bool, float]  # seconds since the one before, at work, tokens counted since then


def suspicions(looks: list[Look]) -> list[bool]:
    watch, now, tokens = ProgressWatch(suspect_after_s=60), 0.0, 0.0
    found = []
    for later, at_work, counted in looks:
        now, tokens = now + later, tokens + counted
        found.append(watch.observe(at_work=at_work, tokens={"generation": tokens}, now=now))
    return found


def test_an_engine_without_work_is_never_suspected() -> None:
    assert not any(suspicions([(100, False, 0)] * 5))


def test_an_engine_that_counts_is_never_suspected() -> None:
    assert not any(suspicions([(59, True, 1)] * 50))


def test_an_engine_that_has_work_and_counts_nothing_is_suspected_in_time() -> None:
    assert suspicions([(1, True, 5), (59, True, 0), (1, True, 0)]) == [False, False, True]


def test_the_time_without_work_does_not_count() -> None:
    assert suspicions([(1, True, 5), (50, False, 0), (50, True, 0), (59, True, 0), (1, True, 0)])[-2:] == [False, True]


def test_an_engine_that_tells_no_counters_cannot_be_suspected() -> None:
    watch = ProgressWatch(suspect_after_s=60)
    assert not any(watch.observe(at_work=True, tokens={}, now=now) for now in (0.0, 100.0, 200.0))


def test_one_that_proved_itself_is_watched_anew() -> None:
    watch = ProgressWatch(suspect_after_s=60)
    told = {"generation": 1.0}
    watch.observe(at_work=True, tokens=told, now=0)
    assert watch.observe(at_work=True, tokens=told, now=60)
    watch.absolve(60)
    assert not watch.observe(at_work=True, tokens=told, now=119)
    assert watch.observe(at_work=True, tokens=told, now=120)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.sampled_from([0.0, 1.0])), max_size=30))
def test_whoever_is_suspected_had_work_and_counted_nothing_all_along(looks: list[Look]) -> None:
    for number, suspected in enumerate(suspicions(looks)):
        before_s = 0.0
        for later, at_work, counted in reversed(looks[: number + 1]) if suspected else ():
            if before_s >= 59.99:
                break
            assert at_work
            assert not counted
            before_s += later


# -- the clock by which all of it is measured ----------------------------------------------------------------------


def test_a_steady_clock_does_not_follow_a_wall_clock_that_is_set() -> None:
    wall, monotonic = [1_000_000.0], [50.0]
    clock = SteadyClock(lambda: wall[0], lambda: monotonic[0])
    monotonic[0] += 10
    wall[0] += 10 - 86400
    assert (clock(), clock.drift_s) == (1_000_010.0, -86400.0)
    wall[0] += 86400
    assert clock.drift_s == 0
