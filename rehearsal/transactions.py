"""Moto's transactions at the price of what they touch.

To have something to go back to, moto copies each table that a transaction names, with all its rows, once for every
change in it: the longer a desk runs, the longer each transaction holds up everybody. Only the rows that are changed in
place need a copy; whatever else a transaction does puts rows in or takes them out.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table

_Changes = Sequence[Mapping[str, Mapping[str, Any]]]

_of_moto = DynamoDBBackend.transact_write_items


def spare() -> None:
    """From now on, for every backend. Twice is once."""
    DynamoDBBackend.transact_write_items = _transact  # type: ignore[method-assign,assignment]


def _transact(backend: DynamoDBBackend, transact_items: Any) -> None:
    with _copying_only(_updated(transact_items)):
        _of_moto(backend, transact_items)


@contextmanager
def _copying_only(keys: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[None]:
    """Copies of tables copy these rows, by table; the account's lock lets nobody else copy one meanwhile."""

    def copied(table: Table, _memo: object) -> Table:
        return _before(table, keys.get(table.name, ()))

    Table.__deepcopy__ = copied  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del Table.__deepcopy__  # type: ignore[attr-defined]


def _updated(changes: _Changes) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    keys: dict[str, list[Mapping[str, Any]]] = {}
    for told in (change["Update"] for change in changes if "Update" in change):
        keys.setdefault(str(told.get("TableName")), []).append(told.get("Key", {}))
    return keys


def _before(table: Table, keys: Sequence[Mapping[str, Any]]) -> Table:
    """What the table holds now, whatever becomes of it."""
    before = copy.copy(table)
    ranged = table.range_key_attr is not None
    rows: Any = {first: dict(below) if ranged else below for first, below in table.items.items()}
    for key in keys:
        place, last = rows, table.hash_key_attr
        if table.range_key_attr is not None:
            place, last = rows.get(_value(key, table.hash_key_attr), {}), table.range_key_attr
        if (value := _value(key, last)) in place:
            place[value] = copy.deepcopy(place[value])
    before.items = defaultdict(dict, rows)
    return before


def _value(key: Mapping[str, Any], attribute: str) -> DynamoType | None:
    """None for what moto will refuse."""
    return DynamoType(key[attribute]) if attribute in key else None
