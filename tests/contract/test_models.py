"""The promises of ModelStore."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from control_plane import schema
from control_plane.aws_session import aws_session
from control_plane.boots import Boot
from control_plane.dynamo import open_dynamo
from control_plane.errors import Stale
from control_plane.nodes import NodeId
from control_plane.ports import ModelRow, ModelStore
from gpu_node.protocol import LOG_TAIL_LINES, Failure, to_attributes
from tests.contract.under_test import Desk, Stores
from tests.memory import MemoryModels

AT = 1_795_000_000.5
CONFIG = {"name": "small", "instanceTypes": ["g6.xlarge", "g5.xlarge"], "idleTimeout": 300}
NODE = NodeId("i-1")
BOOT = Boot(61.5, "g6.xlarge", "org/small@main", True, {"instance": 40.5, "load": 21.0})
FAILURE = Failure("gated_model", "The weights are gated.", "Accept the licence.", permanent=True)


@pytest.fixture
async def models(stores: Stores, namespace: str) -> ModelStore:
    await configure(stores.models, namespace, CONFIG)
    await stores.models.adopt("small", CONFIG)
    return stores.models


async def configure(models: ModelStore, namespace: str, config: Mapping[str, Any]) -> None:
    """What `pulumi up` does."""
    if isinstance(models, MemoryModels):
        await models.seed("small", config, place=2)
        return
    row = {"name": schema.CONFIGURED + "small", "config": config, "place": 2}
    async with open_dynamo(aws_session()) as client:
        await client.put_item(TableName=schema.MODELS.full_name(namespace), Item=to_attributes(row))


async def only(models: ModelStore) -> ModelRow:
    (row,) = await models.list()
    return row


async def test_a_configured_model_reads_back(models: ModelStore) -> None:
    assert await only(models) == ModelRow("small", CONFIG, place=2)


async def test_what_was_configured_just_now_is_not_adopted_yet(stores: Stores, namespace: str) -> None:
    await configure(stores.models, namespace, CONFIG)
    assert await only(stores.models) == ModelRow("small", CONFIG, adopted=False, place=2)


async def test_another_configuration_leaves_the_override_and_the_history_alone(
    models: ModelStore, namespace: str
) -> None:
    await models.set_override("small", {"idleTimeout": 900}, expected={})
    await models.started("small", Boot(42.5))
    changed = CONFIG | {"idleTimeout": 600}
    await configure(models, namespace, changed)
    await models.adopt("small", changed)
    assert await only(models) == ModelRow("small", changed, {"idleTimeout": 900}, (Boot(42.5),), place=2)


async def test_the_same_configuration_forgives_nothing(models: ModelStore, namespace: str) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await configure(models, namespace, CONFIG)
    await models.adopt("small", CONFIG)
    assert (await only(models)).failures == 1


async def test_another_configuration_forgives_at_once_and_for_good(models: ModelStore, namespace: str) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    changed = CONFIG | {"instanceTypes": ["g6e.xlarge"]}
    await configure(models, namespace, changed)
    assert await only(models) == ModelRow("small", changed, failed_at=AT, counted=(NODE,), adopted=False, place=2)
    await models.adopt("small", changed)
    assert await only(models) == ModelRow("small", changed, failed_at=AT, counted=(NODE,), place=2)
    await models.started("small", Boot(1.0))
    assert (await only(models)).failure is None


async def test_an_override_replaces_the_one_that_was_read_and_forgives(models: ModelStore) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
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
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await models.started("small", BOOT)
    assert await only(models) == ModelRow("small", CONFIG, boots=(BOOT,), failed_at=AT, counted=(NODE,), place=2)


async def test_a_start_that_succeeds_need_not_forgive(models: ModelStore) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await models.started("small", BOOT, forgives=False)
    row = await only(models)
    assert (row.boots, row.failures, row.failure) == ((BOOT,), 1, FAILURE)


async def test_a_failure_is_forgiven_by_who_knows_of_no_later_one(models: ModelStore) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await models.failed("small", FAILURE, node=NodeId("i-later"), at=AT + 0.125, count=2)
    with pytest.raises(Stale):
        await models.forgive("small", failed_at=AT)
    assert (await only(models)).failures == 2
    await models.forgive("small", failed_at=AT + 0.125)
    row = await only(models)
    assert (row.failures, row.failure, row.failed_at) == (0, None, AT + 0.125)


async def test_only_the_last_twenty_starts_are_remembered(models: ModelStore) -> None:
    for seconds in range(23):
        await models.started("small", Boot(seconds))
    assert [boot.seconds for boot in (await only(models)).boots] == list(range(3, 23))


async def test_of_a_failed_engine_the_last_lines_are_remembered(models: ModelStore) -> None:
    await models.failed(
        "small", FAILURE, node=NODE, at=AT, count=1, log_tail=[f"line {number}" for number in range(300)]
    )
    log = (await only(models)).failure_log
    assert (len(log), log[-1]) == (LOG_TAIL_LINES, "line 299")


async def test_failures_are_counted_in_a_row(models: ModelStore) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await models.failed("small", FAILURE, node=NodeId("i-2"), at=AT + 60, count=2)
    row = await only(models)
    assert (row.failures, row.failure, row.failed_at) == (2, FAILURE, AT + 60)


async def test_counting_a_failure_twice_is_counting_it_once(models: ModelStore) -> None:
    for count in (1, 2):
        await models.failed("small", FAILURE, node=NODE, at=AT + count, count=count)
    row = await only(models)
    assert (row.failures, row.failed_at, row.counted) == (1, AT + 1, (NODE,))
    await models.forgive("small")
    await models.failed("small", FAILURE, node=NODE, at=AT + 9, count=1)
    assert (await only(models)).failures == 0


async def test_only_the_last_fifty_nodes_are_remembered_as_counted(models: ModelStore) -> None:
    for number in range(52):
        await models.failed("small", FAILURE, node=NodeId(f"i-{number}"), at=AT, count=1)
    counted = (await only(models)).counted
    assert (len(counted), counted[0], counted[-1]) == (50, "i-2", "i-51")


async def test_a_failure_counted_past_another_writer_is_stale(models: ModelStore) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await models.forgive("small")
    with pytest.raises(Stale):
        await models.failed("small", FAILURE, node=NodeId("i-2"), at=AT, count=2)
    assert await only(models) == ModelRow("small", CONFIG, failed_at=AT, counted=(NODE,), place=2)


async def test_a_refused_launch_is_remembered_and_leaves_the_count_alone(models: ModelStore) -> None:
    crash = Failure("engine_crashed", "It crashed.")
    await models.failed("small", crash, node=NODE, at=AT, count=1, log_tail=["last"])
    await models.refused("small", FAILURE, at=AT + 5)
    row = await only(models)
    assert (row.refusal, row.refused_at) == (FAILURE, AT + 5)
    assert (row.failures, row.failure, row.failed_at, row.failure_log) == (1, crash, AT, ("last",))
    await models.failed("small", crash, node=NodeId("i-2"), at=AT + 9, count=2)
    assert (await only(models)).failures == 2


async def test_a_refusal_is_forgiven_with_the_failures(models: ModelStore, namespace: str) -> None:
    await models.refused("small", FAILURE, at=AT)
    await models.forgive("small")
    assert (await only(models)).refusal is None
    await models.refused("small", FAILURE, at=AT)
    await models.started("small", BOOT)
    assert (await only(models)).refusal is None
    await models.refused("small", FAILURE, at=AT)
    await configure(models, namespace, CONFIG | {"idleTimeout": 900})
    assert (await only(models)).refusal is None


async def test_a_person_can_forgive(models: ModelStore) -> None:
    await models.failed("small", FAILURE, node=NODE, at=AT, count=1)
    await models.forgive("small")
    assert await only(models) == ModelRow("small", CONFIG, failed_at=AT, counted=(NODE,), place=2)


async def test_what_is_remembered_of_a_model_that_pulumi_took_away_makes_it_no_model(
    dynamo_stores: Stores, namespace: str
) -> None:
    models = dynamo_stores.models
    await models.set_override("gone", {"idleTimeout": 1}, expected={})
    await models.failed("gone", FAILURE, node=NODE, at=AT, count=1)
    assert await models.list() == []


async def test_nodes_find_the_configuration_and_the_override_in_one_row(
    dynamo_stores: Stores, namespace: str, desk: Desk
) -> None:
    models = dynamo_stores.models
    await configure(models, namespace, CONFIG)
    await models.adopt("small", CONFIG)
    await models.set_override("small", {"idleTimeout": 900}, expected={})
    row = desk.account.row(schema.MODELS.full_name(namespace), {"name": {"S": "small"}})
    assert row is not None
    assert (row["config"], row["override"]) == (CONFIG, {"idleTimeout": 900})
