"""One DynamoDB table in plain values; the one place that knows the client's errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from aiobotocore.config import AioConfig
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane import schema
from control_plane.errors import Stale, Unavailable
from gpu_node.protocol import from_attributes, to_attributes

if TYPE_CHECKING:
    import aioboto3
    from types_aiobotocore_dynamodb import DynamoDBClient

Row = dict[str, Any]

_CONFIG = AioConfig(
    connect_timeout=2,
    read_timeout=5,
    max_pool_connections=50,
    retries={"mode": "standard", "total_max_attempts": 3},
)

_NAME = re.compile(r"#(\w+)")


class Refused(Stale):
    """A condition did not hold; ``row`` is what the table held instead, empty when it held nothing."""

    def __init__(self, table: str, row: Row) -> None:
        super().__init__(f"a condition on {table} did not hold")
        self.row = row


class RefusedTogether(Stale):
    """A transaction did not take place; ``place`` is that of the first change whose condition did not hold, and None
    where another transaction was at work on the same rows."""

    def __init__(self, table: str, place: int | None) -> None:
        super().__init__(f"a transaction on {table} did not take place")
        self.place = place


@dataclass(frozen=True)
class Change:
    """One update of a transaction, in the words of ``DynamoTable.update``."""

    key: Mapping[str, str]
    change: str
    values: Mapping[str, Any]
    when: str = ""


@asynccontextmanager
async def open_dynamo(session: aioboto3.Session) -> AsyncIterator[DynamoDBClient]:
    """The one client of a process: making another costs more CPU than a hundred calls."""
    async with session.client("dynamodb", config=_CONFIG) as client:
        yield client


class DynamoTable:
    """Reads are consistent. Expressions write ``#name`` for an attribute and ``:value`` for a value.

    An attribute is called what its placeholder says, unless ``names`` says otherwise: so no reserved word of
    DynamoDB's ever matters. Raises Refused (a Stale) where a condition fails, Unavailable where AWS does.
    """

    def __init__(self, client: DynamoDBClient, namespace: str, table: schema.Table) -> None:
        self._client = client
        self._table = table
        self._name = table.full_name(namespace)

    async def get(self, **key: str) -> Row | None:
        with self._translated():
            answer = await self._client.get_item(TableName=self._name, Key=to_attributes(key), ConsistentRead=True)
        return from_attributes(answer["Item"]) if "Item" in answer else None

    async def insert(self, row: Mapping[str, Any]) -> None:
        """A new row. Raises Refused when its key is taken."""
        expression = f"attribute_not_exists(#{self._table.hash_key})"
        with self._translated():
            await self._client.put_item(
                TableName=self._name, Item=to_attributes(row), **_placeholders(expression, {}, {}), **_when(expression)
            )

    async def update(
        self,
        key: Mapping[str, str],
        change: str,
        values: Mapping[str, Any],
        *,
        when: str = "",
        names: Mapping[str, str] | None = None,
        before: bool = False,
    ) -> Row:
        """The row as it is afterwards, or as it was ``before``: empty where it is new."""
        with self._translated():
            answer = await self._client.update_item(
                TableName=self._name,
                Key=to_attributes(key),
                UpdateExpression=change,
                ReturnValues="ALL_OLD" if before else "ALL_NEW",
                **_placeholders(f"{change} {when}", values, names or {}),
                **_when(when),
            )
        return from_attributes(answer.get("Attributes", {}))

    async def delete(self, key: Mapping[str, str], *, when: str = "", values: Mapping[str, Any] | None = None) -> None:
        with self._translated():
            await self._client.delete_item(
                TableName=self._name, Key=to_attributes(key), **_placeholders(when, values or {}, {}), **_when(when)
            )

    async def transact(self, changes: Sequence[Change], rows: Sequence[Row]) -> None:
        """All changes, and all rows, new or not; or nothing. 100 at most. Raises RefusedTogether."""
        puts = [{"Put": {"TableName": self._name, "Item": to_attributes(row)}} for row in rows]
        with self._translated():
            await self._client.transact_write_items(TransactItems=[*map(self._update, changes), *puts])  # type: ignore[list-item]

    def _update(self, change: Change) -> dict[str, Any]:
        update = {
            "TableName": self._name,
            "Key": to_attributes(change.key),
            "UpdateExpression": change.change,
            **_placeholders(f"{change.change} {change.when}", change.values, {}),
        }
        return {"Update": update | ({"ConditionExpression": change.when} if change.when else {})}

    async def scan(self, where: str = "", values: Mapping[str, Any] | None = None) -> Sequence[Row]:
        """All rows that pass; the tables are small."""
        query = _placeholders(where, values or {}, {}) | ({"FilterExpression": where} if where else {})
        rows: list[Row] = []
        while True:
            with self._translated():
                page = await self._client.scan(TableName=self._name, ConsistentRead=True, **query)
            rows += map(from_attributes, page["Items"])
            if "LastEvaluatedKey" not in page:
                return rows
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def query(self, hash_value: str) -> Sequence[Row]:
        """All rows under one hash key, in the order of their range keys."""
        where = f"#{self._table.hash_key} = :hash"
        query = _placeholders(where, {"hash": hash_value}, {}) | {"KeyConditionExpression": where}
        rows: list[Row] = []
        while True:
            with self._translated():
                page = await self._client.query(TableName=self._name, ConsistentRead=True, **query)
            rows += map(from_attributes, page["Items"])
            if "LastEvaluatedKey" not in page:
                return rows
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def between(
        self, hash_value: str, first: str, last: str, *, limit: int, newest_first: bool = False
    ) -> Sequence[Row]:
        """At most so many rows under one hash key whose range keys are within these bounds, which belong to it."""
        where = f"#{self._table.hash_key} = :hash AND #{self._table.range_key} BETWEEN :first AND :last"
        with self._translated():
            page = await self._client.query(
                TableName=self._name,
                ConsistentRead=True,
                ScanIndexForward=not newest_first,
                Limit=limit,
                KeyConditionExpression=where,
                **_placeholders(where, {"hash": hash_value, "first": first, "last": last}, {}),
            )
        return [from_attributes(item) for item in page["Items"]]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ParamValidationError:
            raise  # a mistake of ours, not AWS's
        except ClientError as error:
            raise _translation(error, self._table.name) from error
        except (BotoCoreError, HttpError, TimeoutError) as error:
            raise Unavailable(f"DynamoDB did not answer: {type(error).__name__}") from error


def _translation(error: ClientError, table: str) -> Exception:
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return Refused(table, from_attributes(cast(Row, error.response.get("Item", {}))))  # its type does not know Item
    if code == "TransactionCanceledException":
        return _cancelled(error, table)
    if code == "ValidationException":
        return error  # an expression of ours is wrong: a bug must look like one
    return Unavailable(f"DynamoDB refused a call on {table}: {code}")


def _cancelled(error: ClientError, table: str) -> Exception:
    reasons = cast(Row, error.response).get("CancellationReasons", ())  # its type does not know them
    codes = [reason.get("Code") for reason in reasons]
    if "ConditionalCheckFailed" in codes:
        return RefusedTogether(table, codes.index("ConditionalCheckFailed"))
    if "TransactionConflict" in codes:
        return RefusedTogether(table, None)
    return Unavailable(f"DynamoDB cancelled a transaction on {table}: {', '.join(filter(None, codes))}")


def _placeholders(expression: str, values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    # DynamoDB refuses an empty mapping as well as a name that the expression does not use.
    used = {f"#{name}": names.get(name, name) for name in _NAME.findall(expression)}
    given = {f":{name}": value for name, value in to_attributes(values).items()}
    arguments: dict[str, Any] = {}
    if used:
        arguments["ExpressionAttributeNames"] = used
    if given:
        arguments["ExpressionAttributeValues"] = given
    return arguments


def _when(condition: str) -> dict[str, Any]:
    # The old row comes back with a refusal at no cost, and says which half of a condition failed.
    if not condition:
        return {}
    return {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def assignments(values: Mapping[str, Any]) -> str:
    """``SET`` of every value to the attribute of its name."""
    return "SET " + ", ".join(f"#{name} = :{name}" for name in values)
