"""Frozen dataclasses as plain ones: a field of a frozen one is written by a call, and a schedule makes 1,600 of them.

Nothing in the code under test writes to what is frozen, as all other tests prove: there it is what it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

OURS = ("control_plane", "gpu_node", "tests")

_dataclass = dataclasses.dataclass
_replace = dataclasses.replace


def thaw() -> None:
    """For what is imported from now on."""
    dataclasses.dataclass = _thawed
    dataclasses.replace = _replaced


def _thawed(cls: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
    """``dataclass``; what was frozen can be hashed all the same."""
    if cls is None:
        return lambda one: _thawed(one, frozen=frozen, **options)
    ours = cls.__module__.partition(".")[0] in OURS
    if not (frozen and ours):
        return _dataclass(cls, frozen=frozen, **options)
    hashed = options.get("eq", True) and "__hash__" not in vars(cls)
    return _dataclass(cls, unsafe_hash=hashed, **options)


_names: dict[type, tuple[str, ...] | None] = {}


def _replaced(one: Any, /, **changes: Any) -> Any:
    """``replace``, with the names of the fields looked up once a class."""
    kind = type(one)
    if kind not in _names:
        _names[kind] = _arguments(kind)
    names = _names[kind]
    if names is None:
        return _replace(one, **changes)
    now = vars(one)
    return kind(**{name: now[name] for name in names} | changes)


def _arguments(kind: type) -> tuple[str, ...] | None:
    """Of its constructor; None where that takes more than fields."""
    fields = dataclasses.fields(kind)
    plain = len(fields) == len(kind.__dataclass_fields__) and all(field.init for field in fields)  # type: ignore[attr-defined]
    return tuple(field.name for field in fields) if plain else None
