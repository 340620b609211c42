"""Who may come in, read from an account's parameters; and the first key, made from them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import boto3
import pytest

from control_plane import schema
from control_plane.api_keys import hash_key
from control_plane.aws_session import aws_session
from control_plane.cli import create_key
from control_plane.dynamo import DynamoEvents, open_dynamo
from control_plane.errors import Forbidden, InvalidRequest, Unavailable
from control_plane.event import EventKind
from control_plane.parameters import SsmEntrance
from control_plane.settings import Settings
from rehearsal.faults import Fault
from tests.contract.under_test import Desk, Stores

CLIENTS = '[{"id": "work", "name": "Work", "issuer": "https://login.example.org", "clientId": "diogenes"}]'
VALUES: Mapping[str, tuple[str, str]] = {
    schema.ALLOWED_EMAILS: ("StringList", "ann@example.com,*@example.org"),
    schema.OIDC_CLIENTS: ("String", CLIENTS),
    schema.SESSION_KEY: ("SecureString", "s" * 64),
    schema.WEB_URL: ("String", "https://llm.example.org"),
}


@pytest.fixture
def ssm(desk: Desk, namespace: str) -> Any:
    client = boto3.client("ssm")
    for name, (kind, value) in VALUES.items():
        client.put_parameter(Name=schema.parameter_name(namespace, name), Type=kind, Value=value)
    return client


async def test_all_parameters_are_read_in_one_call(ssm: Any, desk: Desk, namespace: str) -> None:
    before = desk.account.calls().get("ssm:GetParameters", 0)
    async with SsmEntrance(namespace) as entrance:
        told = await entrance()
        assert (await entrance()).allowed == told.allowed == ["ann@example.com", "*@example.org"]
    assert (told.secret, told.web_url) == ("s" * 64, "https://llm.example.org")
    assert [provider.id for provider in told.providers] == ["work"]
    assert desk.account.calls()["ssm:GetParameters"] - before == 2


async def test_a_change_is_seen_at_the_next_read(ssm: Any, namespace: str) -> None:
    name = schema.parameter_name(namespace, schema.ALLOWED_EMAILS)
    async with SsmEntrance(namespace) as entrance:
        await entrance()
        ssm.put_parameter(Name=name, Type="StringList", Value="bob@example.com", Overwrite=True)
        assert (await entrance()).allowed == ["bob@example.com"]


async def test_without_the_parameters_nobody_comes_in(desk: Desk) -> None:
    async with SsmEntrance("nowhere") as entrance:
        with pytest.raises(Unavailable, match="cannot be read"):
            await entrance()


async def test_a_throttled_ssm_is_unavailable(ssm: Any, desk: Desk, namespace: str) -> None:
    desk.faults.add(Fault("throttle", "ssm:GetParameters", times=3))
    async with SsmEntrance(namespace) as entrance:
        with pytest.raises(Unavailable):
            await entrance()
        await entrance()


async def test_the_first_key_is_somebodys_on_the_allowlist(ssm: Any, dynamo_stores: Stores, namespace: str) -> None:
    settings = Settings(namespace=namespace)
    key = await create_key(settings, email="Ann@Example.com", name="first")
    (row,) = await dynamo_stores.keys.list()
    assert (row.key_hash, row.email, row.name) == (hash_key(key), "ann@example.com", "first")
    async with open_dynamo(aws_session()) as client:
        log = await DynamoEvents(client, namespace, clock=time.time).after(0, limit=10)
    (told,) = (entry.event for entry in log.entries)
    assert (told.kind, told.cause) == (EventKind.KEY_CREATED, "command line")
    assert dict(told.data) == {"key_id": row.id, "of": "ann@example.com"}
    with pytest.raises(Forbidden, match=r"eve@elsewhere\.org is not on the allowlist"):
        await create_key(settings, email="eve@elsewhere.org", name="first")
    with pytest.raises(InvalidRequest, match="no email address"):
        await create_key(settings, email="*@example.org", name="first")
    assert len(await dynamo_stores.keys.list()) == 1
