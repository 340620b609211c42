"""What is kept of a stack between two commands, and what a command did to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.provider.plugin import Applied
from tests.provider.wire import Value, is_unknown


class Kind(Enum):
    """What a command does to a resource."""

    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True)
class Resource:
    """One resource of the stack, as it was when last seen."""

    urn: str
    type: str  # the provider's
    name: str  # in the program
    config: Value  # what the program asked for, in the provider's shape
    applied: Applied
    dependencies: frozenset[str]  # URNs

    @property
    def label(self) -> str:
        return f"{self.type} {self.name}"


@dataclass(frozen=True)
class Operation:
    """What happened to one resource."""

    label: str  # "aws_lb_listener front"
    kind: Kind
    differences: tuple[str, ...] = ()  # "idle_timeout: 60 -> 300"
    faked: bool = False

    def __str__(self) -> str:
        return f"{self.kind.value} {self.label} ({'; '.join(self.differences)})"


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    operations: tuple[Operation, ...]
    exports: Mapping[str, Any] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()  # type.property
    seconds: float = 0.0

    @property
    def changes(self) -> Mapping[str, Operation]:
        """By label, everything but what stayed the same."""
        return {each.label: each for each in self.operations if each.kind is not Kind.SAME}

    def labels(self, kind: Kind) -> frozenset[str]:
        return frozenset(each.label for each in self.operations if each.kind is kind)

    @property
    def faked(self) -> frozenset[str]:
        """The types whose apply was invented."""
        return frozenset(each.label.split()[0] for each in self.operations if each.faked)


def differences(before: Value, after: Value) -> tuple[str, ...]:
    """Where two values differ, one line each. An absent value beside an empty one only where there is nothing else."""
    found = list(_differences(before, after, ""))
    telling = [line for line, is_telling in found if is_telling]
    return tuple(telling or [line for line, _ in found])


def _differences(before: Value, after: Value, path: str) -> Iterator[tuple[str, bool]]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            yield from _differences(before.get(name), after.get(name), f"{path}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _differences(*pair, f"{path}.{index}")
    elif isinstance(before, list) and isinstance(after, list):
        yield from ((f"{path[1:]}: without {each}", True) for each in before if each not in after)
        yield from ((f"{path[1:]}: with {each}", True) for each in after if each not in before)
    else:
        yield f"{path[1:]}: {_short(before)} -> {_short(after)}", bool(before) or bool(after)


def live(config: Value, state: Value) -> Value:
    """What a refresh makes of the inputs: whatever the program had said, as it is now."""
    if config is None or config == []:
        return config
    if isinstance(config, Mapping) and isinstance(state, Mapping):
        return {name: live(value, state.get(name)) for name, value in config.items()}
    if isinstance(config, list) and isinstance(state, list) and len(config) == len(state):
        return [live(*pair) for pair in zip(config, state, strict=True)]
    return state


def _short(value: Value) -> str:
    return "?" if is_unknown(value) else repr(value)[:120]
