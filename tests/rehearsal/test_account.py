"""The account keeps AWS's promises where moto alone would not, and breaks them when told to."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.dynamodb.models.dynamo_type import Item

from control_plane.schema import CONFIGURED, EVENTS, GROUP_MAX_SIZE, MODELS, TABLES
from rehearsal.account import Account, AccountOpen
from rehearsal.faults import Faults
from tests.rehearsal.conftest import NAMESPACE, SMALL, Cloud

TABLE = MODELS.full_name(NAMESPACE)
LOG = EVENTS.full_name(NAMESPACE)
KEY = {"name": {"S": "counter"}}


def count_up(cloud: Cloud, number: int) -> None:
    """One read, then writes that hold only if nobody was faster, until one does."""
    dynamodb = cloud.client("dynamodb")
    while True:
        seen = dynamodb.get_item(TableName=TABLE, Key=KEY).get("Item", {}).get("n", {"N": "0"})["N"]
        try:
            dynamodb.update_item(
                TableName=TABLE,
                Key=KEY,
                UpdateExpression="SET n = :next, who = :who",
                ConditionExpression="attribute_not_exists(n) OR n = :seen",
                ExpressionAttributeValues={
                    ":next": {"N": str(int(seen) + 1)},
                    ":seen": {"N": seen},
                    ":who": {"N": str(number)},
                },
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            continue
        return


def test_no_concurrent_conditional_increment_is_lost(cloud: Cloud) -> None:
    cloud.client("dynamodb")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: count_up(cloud, number), range(300)))
    item = cloud.client("dynamodb").get_item(TableName=TABLE, Key=KEY)["Item"]
    assert item["n"] == {"N": "300"}


def test_a_second_account_is_refused_before_it_empties_the_first(cloud: Cloud) -> None:
    cloud.client("dynamodb").put_item(TableName=TABLE, Item=KEY)
    with pytest.raises(AccountOpen, match=cloud.url):
        Account(Faults())
    assert cloud.client("dynamodb").get_item(TableName=TABLE, Key=KEY)["Item"] == KEY


def test_nothing_is_kept_of_what_was_answered(cloud: Cloud) -> None:
    dynamodb = cloud.client("dynamodb")
    change: list[Any] = [{"Update": {"TableName": TABLE, "Key": KEY, "UpdateExpression": "SET who = :who"}}]
    change[0]["Update"]["ExpressionAttributeValues"] = {":who": {"N": "1"}}

    def rows_after(rounds: int) -> int:
        for _ in range(rounds):
            dynamodb.scan(TableName=TABLE)
            dynamodb.transact_write_items(TransactItems=change)
        return sum(isinstance(each, Item) for each in gc.get_objects())

    rows = rows_after(1)
    assert rows_after(20) <= rows


def event_rows(cloud: Cloud) -> dict[str, str]:
    rows = cloud.client("dynamodb").scan(TableName=LOG)["Items"]
    return {row["entry"]["S"]: row["n"]["N"] for row in rows}


def test_a_transaction_copies_no_more_than_it_touches(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes back to it when it fails: to rows that were changed, put, deleted, or not there."""
    dynamodb = cloud.client("dynamodb")
    for number in range(50):
        dynamodb.put_item(TableName=LOG, Item={**log_key(number), "n": {"N": "0"}})
    before = event_rows(cloud)
    copies: list[Item] = []
    whole = Item.__deepcopy__

    def counted(row: Item, memo: dict[int, Any]) -> Item:
        copies.append(row)
        return whole(row, memo)

    def changes(seen: str) -> list[Any]:
        values = {":one": {"N": "1"}}
        update = {"TableName": LOG, "UpdateExpression": "SET n = :one", "ExpressionAttributeValues": values}
        guard = {"ConditionExpression": "n = :seen", "ExpressionAttributeValues": values | {":seen": {"N": seen}}}
        return [
            {"Update": {**update, "Key": log_key(1)}},
            {"Update": {**update, "Key": log_key(77)}},
            {"Put": {"TableName": LOG, "Item": {**log_key(2), "n": {"N": "1"}}}},
            {"Put": {"TableName": LOG, "Item": {**log_key(78), "n": {"N": "1"}}}},
            {"Delete": {"TableName": LOG, "Key": log_key(3)}},
            {"Update": {**update, **guard, "Key": log_key(4)}},
        ]

    monkeypatch.setattr(Item, "__deepcopy__", counted)
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        dynamodb.transact_write_items(TransactItems=changes(seen="7"))
    refused, copies[:] = len(copies), []
    after_refusal = event_rows(cloud)
    copies.clear()
    dynamodb.transact_write_items(TransactItems=changes(seen="0"))
    assert max(refused, len(copies)) < 40
    assert after_refusal == before
    kept = {name: number for name, number in before.items() if name != "3"}
    assert event_rows(cloud) == kept | dict.fromkeys(("1", "2", "4", "77", "78"), "1")


def log_key(number: int) -> dict[str, dict[str, str]]:
    return {"page": {"S": "000000000"}, "entry": {"S": str(number)}}


def test_the_program_makes_tables_groups_and_models(cloud: Cloud) -> None:
    names = cloud.client("dynamodb").list_tables()["TableNames"]
    assert sorted(names) == sorted(table.full_name(NAMESPACE) for table in TABLES)
    row = cloud.account.row(TABLE, {"name": {"S": CONFIGURED + "org/small"}})
    assert row is not None
    assert row["config"]["maxInstances"] == 2
    group = cloud.group()
    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, GROUP_MAX_SIZE, 0)
    assert group["AvailabilityZones"] == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert {tag["Key"]: tag["Value"] for tag in group["Tags"]} == {
        "Name": SMALL,
        "diogenes": NAMESPACE,
        "diogenes:model": "org/small",
        "diogenes:market": "on-demand",
    }


def test_every_call_is_counted(cloud: Cloud) -> None:
    before = cloud.account.calls().get("dynamodb:GetItem", 0)
    cloud.client("dynamodb").get_item(TableName=TABLE, Key=KEY)
    assert cloud.account.calls()["dynamodb:GetItem"] == before + 1


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [("dynamodb", "GetItem", "ThrottlingException"), ("autoscaling", "DescribeAutoScalingGroups", "Throttling")],
)
def test_a_throttled_call_is_refused_as_often_as_told(cloud: Cloud, service: str, operation: str, code: str) -> None:
    def call() -> None:
        if service == "dynamodb":
            cloud.client("dynamodb").get_item(TableName=TABLE, Key=KEY)
        else:
            cloud.group()

    cloud.add_fault(throttle=f"{service}:{operation}", times=1)
    with pytest.raises(ClientError) as refusal:
        call()
    assert refusal.value.response["Error"]["Code"] == code
    call()


def test_a_failed_call_has_no_effect(cloud: Cloud) -> None:
    cloud.add_fault(fail="dynamodb:PutItem")
    with pytest.raises(ClientError) as failure:
        cloud.client("dynamodb").put_item(TableName=TABLE, Item=KEY)
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "Item" not in cloud.client("dynamodb").get_item(TableName=TABLE, Key=KEY)


def test_a_lost_reply_is_an_error_whose_effect_happened(cloud: Cloud) -> None:
    cloud.add_fault(lose_reply="autoscaling:LaunchInstances")
    with pytest.raises(ClientError) as failure:
        cloud.launch()
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert len(cloud.group()["Instances"]) == 1
    again = cloud.launch()
    assert [member.id for member in cloud.account.members()] == again["Instances"][0]["InstanceIds"]


def test_a_group_that_does_not_exist_is_a_validation_error(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="not found") as refusal:
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=SMALL + "x", DesiredCapacity=1)
    assert refusal.value.response["Error"]["Code"] == "ValidationError"
