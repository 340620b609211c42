"""The engine and the provider with programs of a few lines: what each command does, and what it refuses."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pulumi
import pytest

from rehearsal.account import REGION
from rehearsal.account_server import AccountServer
from tests.provider import executable
from tests.provider.plugin import Provider
from tests.provider.programs import small
from tests.provider.stack import Stack
from tests.provider.state import Kind
from tests.provider.surroundings import Clients
from tests.provider.wire import ProviderError

aws: Any = importlib.import_module("pulumi_aws")  # by name: type checkers take minutes over it

TABLE, PARAMETER = "aws_dynamodb_table table", "aws_ssm_parameter parameter"


@pytest.fixture
def stack(provider: Provider, tmp_path: Path) -> Any:
    made = Stack(provider, assets=tmp_path)
    yield made
    made.destroy()


@pytest.fixture
def ask(account: AccountServer) -> Clients:
    return Clients(account.url)


def pair(**changes: Any) -> Callable[[], None]:
    """A table, and a parameter that names it."""
    key, value = changes.pop("key", "id"), changes.pop("value", "one")
    ignored, description = changes.pop("ignored", ()), changes.pop("description", None)

    def build() -> None:
        table = aws.dynamodb.Table(
            "table",
            name="engine-table",
            billing_mode="PAY_PER_REQUEST",
            hash_key=key,
            attributes=[{"name": key, "type": "S"}],
            **changes,
        )
        aws.ssm.Parameter(
            "parameter",
            name=pulumi.Output.concat("/engine/", table.name),
            type="String",
            value=value,
            description=description,
            opts=pulumi.ResourceOptions(ignore_changes=list(ignored)),
        )

    return build


def test_every_endpoint_of_the_provider_is_on_this_machine(provider: Provider, account: AccountServer) -> None:
    assert len(provider.endpoints) > 250
    assert set(provider.endpoints.values()) == {account.url}


def test_an_endpoint_elsewhere_is_refused(provider_executable: Path) -> None:
    with pytest.raises(ValueError, match="not on this machine"):
        Provider(provider_executable, endpoint="https://dynamodb.us-east-1.amazonaws.com", region=REGION)


def test_what_is_new_is_created_and_then_stays_the_same(stack: Stack, ask: Clients) -> None:
    first = stack.up(small(pair()))
    again = stack.up(small(pair()))
    assert first.labels(Kind.CREATE) == {TABLE, PARAMETER}
    assert again.labels(Kind.SAME) == {TABLE, PARAMETER}
    assert not again.changes
    assert not first.dropped
    assert not first.faked
    assert ask("ssm").get_parameter(Name="/engine/engine-table")["Parameter"]["Value"] == "one"


def test_a_property_that_this_version_of_the_provider_lacks_is_reported(stack: Stack) -> None:
    assert stack.up(small(pair(region=REGION))).dropped == {"aws_dynamodb_table.region"}


def test_a_change_in_place_touches_nothing_else(stack: Stack, ask: Clients) -> None:
    stack.up(small(pair()))
    changes = stack.up(small(pair(value="two"))).changes
    assert {label: each.kind for label, each in changes.items()} == {PARAMETER: Kind.UPDATE}
    assert any("'one' -> 'two'" in line for line in changes[PARAMETER].differences)
    assert ask("ssm").get_parameter(Name="/engine/engine-table")["Parameter"]["Value"] == "two"


def test_a_key_cannot_change_in_place(stack: Stack, ask: Clients) -> None:
    stack.up(small(pair()))
    changes = stack.up(small(pair(key="other"))).changes
    assert changes[TABLE].kind is Kind.REPLACE
    assert ask("dynamodb").describe_table(TableName="engine-table")["Table"]["KeySchema"] == [
        {"AttributeName": "other", "KeyType": "HASH"}
    ]


@pytest.mark.parametrize("refresh", [False, True])
def test_an_ignored_property_keeps_what_somebody_else_wrote(stack: Stack, ask: Clients, refresh: bool) -> None:
    stack.up(small(pair()))
    ask("ssm").put_parameter(Name="/engine/engine-table", Value="live", Overwrite=True)
    outcome = stack.up(small(pair(value="two", ignored=["value"])), refresh=refresh)
    assert not outcome.changes
    assert ask("ssm").get_parameter(Name="/engine/engine-table")["Parameter"]["Value"] == "live"


def test_a_property_that_is_not_ignored_is_set_back_by_a_refresh(stack: Stack, ask: Clients) -> None:
    stack.up(small(pair()))
    ask("ssm").put_parameter(Name="/engine/engine-table", Value="live", Overwrite=True)
    assert stack.up(small(pair()), refresh=True).changes[PARAMETER].kind is Kind.UPDATE
    assert ask("ssm").get_parameter(Name="/engine/engine-table")["Parameter"]["Value"] == "one"


def test_what_vanished_is_made_again_after_a_refresh(stack: Stack, ask: Clients) -> None:
    stack.up(small(pair()))
    ask("ssm").delete_parameter(Name="/engine/engine-table")
    assert stack.up(small(pair()), refresh=True).labels(Kind.CREATE) == {PARAMETER}


def test_ignoring_a_property_that_does_not_exist_is_an_error(stack: Stack) -> None:
    stack.up(small(pair()))
    with pytest.raises(ProviderError, match="valeu"):
        stack.up(small(pair(ignored=["valeu"])))


def test_what_is_no_longer_in_the_program_is_deleted(stack: Stack, ask: Clients) -> None:
    stack.up(small(pair()))
    outcome = stack.up(small(lambda: None))
    assert outcome.labels(Kind.DELETE) == {TABLE, PARAMETER}
    assert ask("dynamodb").list_tables()["TableNames"] == []
    assert not stack.resources


def test_a_preview_of_a_fresh_stack_makes_nothing(stack: Stack, ask: Clients) -> None:
    outcome = stack.preview(small(pair()))
    assert outcome.labels(Kind.CREATE) == {TABLE, PARAMETER}
    assert ask("dynamodb").list_tables()["TableNames"] == []
    assert not stack.resources


def test_an_ignored_property_survives_an_update_of_its_resource(stack: Stack, ask: Clients) -> None:
    stack.up(small(pair()))
    ask("ssm").put_parameter(Name="/engine/engine-table", Value="live", Overwrite=True)
    changed = stack.up(small(pair(value="two", ignored=["value"], description="new")), refresh=True)
    assert changed.labels(Kind.UPDATE) == {PARAMETER}
    parameter = ask("ssm").describe_parameters()["Parameters"][0]
    assert parameter["Description"] == "new"
    assert ask("ssm").get_parameter(Name="/engine/engine-table")["Parameter"]["Value"] == "live"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"billing_mode": "PAY_PER_REQUESTS"}, "PAY_PER_REQUESTS", id="an enum"),
        pytest.param({"attributes": [{"name": "id", "type": "Q"}]}, "Q", id="an attribute's type"),
        pytest.param({"attributes": [{"name": "id", "type": "S"}, {"name": "x", "type": "S"}]}, "x", id="unindexed"),
        pytest.param({"ttl": {"attributeNaem": "t"}}, "attributeNaem", id="an unknown nested key"),
        pytest.param({"attributes": [{"name": "id"}]}, "type", id="a missing argument"),
        pytest.param({"read_capacity": "many"}, "number", id="not a number"),
    ],
)
def test_the_provider_refuses_before_anything_is_made(
    stack: Stack, ask: Clients, changes: dict[str, Any], words: str
) -> None:
    table = {"billing_mode": "PAY_PER_REQUEST", "hash_key": "id", "attributes": [{"name": "id", "type": "S"}]}
    with pytest.raises(ProviderError, match=words):
        stack.up(small(lambda: aws.dynamodb.Table("table", **{**table, **changes}) and None))
    assert ask("dynamodb").list_tables()["TableNames"] == []


def test_a_failed_apply_leaves_what_was_made_in_the_state(stack: Stack, ask: Clients) -> None:
    def build() -> None:
        first = aws.ssm.Parameter("parameter", name="/engine/taken", type="String", value="one")
        aws.ssm.Parameter("second", name=first.name, type="String", value="two")

    with pytest.raises(ProviderError, match="already exists"):
        stack.up(small(build))
    assert [each.label for each in stack.resources.values()] == [PARAMETER]
    stack.destroy()
    assert ask("ssm").describe_parameters()["Parameters"] == []


def test_a_name_that_the_program_leaves_out_is_made_once(stack: Stack) -> None:
    build = small(lambda: aws.cloudwatch.LogGroup("logs") and None)
    stack.up(build)
    name = stack.state("aws_cloudwatch_log_group logs")["name"]
    assert name.startswith("logs-")
    assert not stack.up(build).changes


def test_no_process_of_the_provider_is_left_when_a_test_fails(
    provider_executable: Path, account: AccountServer
) -> None:
    running = Provider(provider_executable, endpoint=account.url, region=REGION)
    with contextlib.suppress(RuntimeError), running:
        raise RuntimeError
    assert not psutil.pid_exists(running.process.pid)


def test_a_named_executable_that_does_not_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(executable.VARIABLE, os.devnull)
    executable.find.cache_clear()
    with pytest.raises(FileNotFoundError):
        executable.find()
    executable.find.cache_clear()
