"""Every port twice: in memory, and by its real adapter against an account on this machine."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import boto3
import pytest

from control_plane.aws import AwsCloud, open_autoscaling
from control_plane.aws_session import aws_session
from control_plane.dynamo import (
    DynamoFence,
    DynamoKeys,
    DynamoLaunches,
    DynamoLimits,
    DynamoModels,
    DynamoNodes,
    DynamoOverrides,
    DynamoSessions,
    DynamoUsage,
    DynamoWishes,
    open_dynamo,
)
from control_plane.ec2 import Ec2
from control_plane.schema import TABLES, Table
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.faults import Faults
from tests.contract.groups import AwsGroups, GroupsUnderTest, MemoryGroups
from tests.contract.under_test import Desk, Stores
from tests.memory import FakeClock, MemoryFence, MemoryKeys, MemoryLaunches, MemoryModels, MemoryNodes, MemoryWishes
from tests.memory_books import MemoryLimits, MemoryUsage
from tests.memory_people import MemoryOverrides, MemorySessions

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def desk_server() -> Iterator[Desk]:
    faults = Faults()
    account = Account(faults)
    with AccountServer(account) as server:
        yield Desk(account, faults, server.url)


@pytest.fixture
def desk(desk_server: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The account, with this process's SDK pointed at it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", desk_server.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "desk")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "desk")
    return desk_server


@pytest.fixture
def namespace() -> str:
    return f"test{next(_numbers)}"


@pytest.fixture
def tables(desk: Desk, namespace: str) -> None:
    client = boto3.client("dynamodb")
    for table in TABLES:
        _create(client, table, namespace)


def _create(client: object, table: Table, namespace: str) -> None:
    keys = [(table.hash_key, "HASH"), *([(table.range_key, "RANGE")] if table.range_key else [])]
    client.create_table(  # type: ignore[attr-defined]  # boto3 makes its methods at run time
        TableName=table.full_name(namespace),
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def dynamo_stores(tables: None, namespace: str, clock: FakeClock) -> AsyncIterator[Stores]:
    async with open_dynamo(aws_session()) as client:
        yield Stores(
            nodes=DynamoNodes(client, namespace),
            wishes=DynamoWishes(client, namespace),
            launches=DynamoLaunches(client, namespace),
            models=DynamoModels(client, namespace),
            keys=DynamoKeys(client, namespace),
            usage=DynamoUsage(client, namespace),
            limits=DynamoLimits(client, namespace),
            fence=DynamoFence(client, namespace, clock=clock),
            sessions=DynamoSessions(client, namespace),
            overrides=DynamoOverrides(client, namespace),
        )


@pytest.fixture
def memory_stores() -> Stores:
    return Stores(
        nodes=MemoryNodes(),
        wishes=MemoryWishes(),
        launches=MemoryLaunches(),
        models=MemoryModels(),
        keys=MemoryKeys(),
        usage=MemoryUsage(),
        limits=MemoryLimits(),
        fence=MemoryFence(),
        sessions=MemorySessions(),
        overrides=MemoryOverrides(),
    )


@pytest.fixture(params=["memory", "dynamo"])
def stores(request: pytest.FixtureRequest) -> Stores:
    found: Stores = request.getfixturevalue(f"{request.param}_stores")
    return found


@pytest.fixture
async def aws_groups(desk: Desk, namespace: str, clock: FakeClock) -> AsyncIterator[AwsGroups]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_autoscaling(aws_session()))
        ec2 = await stack.enter_async_context(Ec2(aws_session()))
        cloud = AwsCloud(client, namespace, ec2=ec2, sleep=clock.sleep)
        yield AwsGroups(cloud, client, namespace=namespace, faults=desk.faults)


@pytest.fixture
def memory_groups() -> MemoryGroups:
    return MemoryGroups()


@pytest.fixture(params=["memory", "aws"])
def groups(request: pytest.FixtureRequest) -> GroupsUnderTest:
    found: GroupsUnderTest = request.getfixturevalue(f"{request.param}_groups")
    return found
