"""Configurations that cannot be deployed, or are only half told."""

from __future__ import annotations

import pulumi
import pytest

from rehearsal.program import StackConfig, run
from tests.infra.whole import OFFLINE, TOKEN, recording, run_stack, stack_config, text


def test_a_configuration_that_cannot_be_deployed_stops_before_anything_is_registered_and_tells_all() -> None:

    recorder = recording()
    wrong = stack_config(
        models=[
            {"name": "acme/one", "instanceTypes": ["t3.nano"]},
            {"name": "acme/other", "instanceTypes": ["g5.xlarge"], "idleTimeout": -1},
        ],
        edge="public",
        zones=9,
        keysOnly=False,
        idleTimeOut=5,
    )
    with pytest.raises(pulumi.RunError) as raised:
        run(wrong, recorder, environment=OFFLINE)
    told = str(raised.value)
    for words in ("t3.nano", "idleTimeout", "domain", "zones", "googleClientId", "idleTimeOut", "pulumi config"):
        assert words in told
    assert list(recorder.registrations) == []
    assert recorder.asked == []


def test_a_token_in_clear_is_refused_and_not_repeated() -> None:

    with pytest.raises(pulumi.RunError, match="--secret hfToken") as raised:
        run_stack(stack_config(hfToken=TOKEN))
    assert TOKEN not in str(raised.value)


def test_an_empty_token_counts_as_none() -> None:
    secret = frozenset({"diogenes:hfToken"})
    for config in (stack_config(hfToken=""), stack_config(hfToken="", secrets=secret)):
        registrations = run_stack(config).registrations
        assert registrations.one("ssm/parameter:Parameter", "data-session-key")
        assert all("hf-token" not in text(each.inputs) for each in registrations)


def test_a_stack_without_models_is_told_so() -> None:
    with pytest.raises(pulumi.RunError, match="no model is configured"):
        run_stack(stack_config(models=[]))


def test_a_missing_region_is_told() -> None:

    config = stack_config()
    values = {name: value for name, value in config.values.items() if name != "aws:region"}
    with pytest.raises(pulumi.RunError, match="aws:region"):
        run_stack(StackConfig("desk", values))
