"""The environment is read once, whole, and refused with every problem at once."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from control_plane.schema import TABLES, group_name
from control_plane.settings import InvalidSettings, Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_a_setting_is_read_in_the_type_of_its_default() -> None:
    settings = Settings.from_env({"DIOGENES_PORT": "9090", "DIOGENES_TICK_S": "2.5", "DIOGENES_NAMESPACE": "dio-dev"})
    assert (settings.port, settings.tick_s, settings.namespace) == (9090, 2.5, "dio-dev")


def test_what_is_written_is_what_is_read() -> None:
    settings = replace(Settings(), namespace="dio-dev", port=9090, lease_s=111.5)
    assert Settings.from_env(settings.to_env()) == settings


def test_every_setting_is_written() -> None:
    assert len(Settings().to_env()) == len(fields(Settings))


def test_foreign_variables_are_none_of_ours() -> None:
    assert Settings.from_env({"PATH": "/bin", "AWS_REGION": "us-east-1", "PORT": "1"}) == Settings()


def test_a_misspelt_setting_stops_the_start() -> None:
    with pytest.raises(InvalidSettings, match="DIOGENES_TIKC_S is not a setting"):
        Settings.from_env({"DIOGENES_TIKC_S": "5"})


def test_all_problems_are_told_at_once() -> None:
    environ = {
        "DIOGENES_NOISE": "1",
        "DIOGENES_PORT": "http",
        "DIOGENES_TICK_S": "-1",
        "DIOGENES_MAX_WAITERS": "0",
    }
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_env(environ)
    told = str(refused.value)
    assert told.count(";") == 3
    assert all(name in told for name in environ)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_time_that_never_ends_is_refused(value: str) -> None:
    with pytest.raises(InvalidSettings, match="DIOGENES_LEASE_S"):
        Settings.from_env({"DIOGENES_LEASE_S": value})


def test_every_table_has_a_name_of_its_own_in_its_namespace() -> None:
    names = {table.full_name("dio-dev") for table in TABLES}
    assert len(names) == len(TABLES)
    assert all(name.startswith("dio-dev-") for name in names)


def test_a_group_is_named_after_its_model_and_market() -> None:
    assert group_name("dio", "small-8b", "spot") == "dio-small-8b-spot"
