"""Warm hours: on the zone's own clocks, also where these jump; and as long as they say."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.warm_hours import WarmHours, problems

BERLIN = ZoneInfo("Europe/Berlin")


def berlin(moment: str, *, fold: int = 0) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=BERLIN, fold=fold).timestamp()


def test_working_hours_begin_and_end_on_the_minute() -> None:
    hours = WarmHours("0 9 * * mon-fri", 540, "Europe/Berlin")
    friday, saturday = "2026-11-27", "2026-11-28"
    begin = berlin(f"{friday}T09:00")
    assert hours.since(begin - 0.001) is None
    assert hours.since(begin) == begin
    assert hours.until(begin - 0.001) is None
    assert hours.until(begin) == berlin(f"{friday}T18:00")
    assert hours.since(berlin(f"{friday}T17:59:59.9")) == begin
    assert hours.since(berlin(f"{friday}T18:00")) is None
    assert hours.since(berlin(f"{saturday}T12:00")) is None


def test_hours_pass_midnight() -> None:
    hours = WarmHours("0 23 * * *", 120, "Europe/Berlin")
    assert hours.since(berlin("2026-12-01T00:30")) == berlin("2026-11-30T23:00")


def test_a_time_that_the_clocks_skip_begins_when_they_have_jumped() -> None:
    hours = WarmHours("30 2 * * *", 60, "Europe/Berlin")
    jump = berlin("2026-03-29T03:00")
    assert hours.since(jump - 1) is None
    assert hours.since(jump) == jump
    assert hours.since(jump + 3599) == jump
    assert hours.since(jump + 3600) is None


def test_a_time_that_the_clocks_repeat_begins_once_and_lasts_real_minutes() -> None:
    hours = WarmHours("30 2 * * *", 60, "Europe/Berlin")
    begin = berlin("2026-10-25T02:30")
    assert hours.since(begin) == hours.since(begin + 3599) == begin
    assert hours.since(berlin("2026-10-25T02:30", fold=1)) is None
    assert hours.since(berlin("2026-10-25T02:59", fold=1)) is None


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-11-29"])
def test_every_day_has_its_hours_once_whatever_the_clocks_do(day: str) -> None:
    hours = WarmHours("15 8 * * *", 30, "Europe/Berlin")
    midnight = berlin(f"{day}T00:00")
    warm = [minute for minute in range(25 * 60) if hours.since(midnight + 60 * minute) is not None]
    assert len(warm) == 30
    assert midnight + 60 * warm[0] == berlin(f"{day}T08:15")


@given(st.integers(0, 365 * 1440), st.integers(1, 1440))
def test_hours_are_never_longer_than_they_say(minute: int, minutes: int) -> None:
    moment = berlin("2026-01-01T00:00") + timedelta(minutes=minute).total_seconds()
    begin = WarmHours("0 7,19 * * *", minutes, "Europe/Berlin").since(moment)
    assert begin is None or begin <= moment < begin + 60 * minutes


def test_what_is_wrong_is_told_with_its_place() -> None:
    told = problems([{"cron": "0 9 * * *", "minutes": 5}, {"cron": "61 9 * * *", "minutes": 0, "zone": "Nowhere"}])
    assert [line.split(" ")[0] for line in told] == ["warmHours[1].minutes", "warmHours[1].zone", "warmHours[1].cron"]
