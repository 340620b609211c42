"""The promises of ModelStore."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.dynamo import DynamoModels, open_dynamo
from control_plane.errors import Stale
from control_plane.ports import ModelRow, ModelStore
from control_plane.schema import MODELS
from gpu_node.protocol import Failure, to_attributes
from tests.contract.under_test import Stores

AT = 1_795_000_000.5
CONFIG = {"name": "small", "instanceTypes": ["g6.xlarge", "g5.xlarge"], "idleTimeout": 300}
FAILURE = Failure("gated_model", "The weights are gated.", "Accept the licence.", permanent=True)


@pytest.fixture
async def models(stores: Stores) -> ModelStore:
    await stores.models.seed("small", CONFIG)
    return stores.models


async def only(models: ModelStore) -> ModelRow:
    (row,) = await models.list()
    return row


async def test_a_seeded_model_reads_back(models: ModelStore) -> None:
    assert await only(models) == ModelRow("small", CONFIG)


async def test_seeding_again_leaves_the_override_and_the_history_alone(models: ModelStore) -> None:
    await models.set_override("small", {"idleTimeout": 900}, expected={})
    await models.started("small", 42.5)
    changed = CONFIG | {"idleTimeout": 600}
    await models.seed("small", changed)
    row = await only(models)
    assert (row.config, row.override, row.boot_seconds) == (changed, {"idleTimeout": 900}, (42.5,))


async def test_the_same_configuration_forgives_nothing(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    await models.seed("small", CONFIG)
    assert (await only(models)).failures == 1


async def test_another_configuration_forgives(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    changed = CONFIG | {"instanceTypes": ["g6e.xlarge"]}
    await models.seed("small", changed)
    assert await only(models) == ModelRow("small", changed, failed_at=AT)


async def test_an_override_replaces_the_one_that_was_read_and_forgives(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    await models.set_override("small", {"idleTimeout": 900}, expected={})
    await models.set_override("small", {"maxInstances": 2}, expected={"idleTimeout": 900})
    row = await only(models)
    assert (row.override, row.failures, row.failure) == ({"maxInstances": 2}, 0, None)


async def test_an_override_can_be_reset_and_set_anew(models: ModelStore) -> None:
    await models.set_override("small", {"idleTimeout": 900}, expected={})
    await models.set_override("small", {}, expected={"idleTimeout": 900})
    await models.set_override("small", {"idleTimeout": 60}, expected={})
    assert (await only(models)).override == {"idleTimeout": 60}


async def test_of_two_overrides_at_once_the_second_is_stale(models: ModelStore) -> None:
    changes = [models.set_override("small", {"idleTimeout": n}, expected={}) for n in (60, 90)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(outcome, Stale) for outcome in outcomes) == 1
    assert (await only(models)).override == {"idleTimeout": 60 if outcomes[0] is None else 90}


async def test_a_start_that_succeeds_forgives_and_is_remembered(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    await models.started("small", 61.5)
    assert await only(models) == ModelRow("small", CONFIG, boot_seconds=(61.5,), failed_at=AT)


async def test_only_the_last_twenty_starts_are_remembered(models: ModelStore) -> None:
    for seconds in range(23):
        await models.started("small", seconds)
    assert tuple((await only(models)).boot_seconds) == tuple(range(3, 23))


async def test_failures_are_counted_in_a_row(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    await models.failed("small", FAILURE, at=AT + 60, count=2)
    row = await only(models)
    assert (row.failures, row.failure, row.failed_at) == (2, FAILURE, AT + 60)


async def test_counting_a_failure_twice_is_counting_it_once(models: ModelStore) -> None:
    for _ in range(2):
        await models.failed("small", FAILURE, at=AT, count=1)
    assert (await only(models)).failures == 1


async def test_a_failure_counted_past_another_writer_is_stale(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    await models.forgive("small")
    with pytest.raises(Stale):
        await models.failed("small", FAILURE, at=AT, count=2)
    assert await only(models) == ModelRow("small", CONFIG, failed_at=AT)


async def test_a_refused_launch_is_remembered_without_being_counted(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=0)
    row = await only(models)
    assert (row.failures, row.failure, row.failed_at) == (0, FAILURE, AT)


async def test_a_person_can_forgive(models: ModelStore) -> None:
    await models.failed("small", FAILURE, at=AT, count=1)
    await models.forgive("small")
    assert await only(models) == ModelRow("small", CONFIG, failed_at=AT)


async def test_a_model_that_was_never_seeded_is_stale_and_stays_unknown(models: ModelStore) -> None:
    for write in (
        models.started("unknown", 1.0),
        models.forgive("unknown"),
        models.failed("unknown", FAILURE, at=AT, count=1),
        models.failed("unknown", FAILURE, at=AT, count=0),
        models.set_override("unknown", {"idleTimeout": 1}, expected={}),
    ):
        with pytest.raises(Stale):
            await write
    assert [row.name for row in await models.list()] == ["small"]


async def test_the_first_failure_of_a_row_that_pulumi_wrote_is_counted(tables: None, namespace: str) -> None:
    async with open_dynamo() as client:
        bare = to_attributes({"name": "small", "config": CONFIG})
        await client.put_item(TableName=MODELS.full_name(namespace), Item=bare)
        models = DynamoModels(client, namespace)
        await models.failed("small", FAILURE, at=AT, count=1)
        assert (await only(models)).failures == 1
