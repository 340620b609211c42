"""Answers that nobody here can give for real: what the emulated account lacks, and what is not AWS at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.provider.schema import Block, Type
from tests.provider.state import Resource
from tests.provider.wire import Value, is_unknown

Make = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""A resource's name and inputs to what the program may read of it."""

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A function's arguments to its result."""


@dataclass(frozen=True)
class Foreign:
    """What does not go to the AWS provider, by token."""

    resources: Mapping[str, Make] = field(default_factory=dict)
    functions: Mapping[str, Answer] = field(default_factory=dict)

    def make(self, token: str, name: str, inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """None for a type of the AWS provider."""
        make = self.resources.get(token)
        return make(name, inputs) if make else None

    def answer(self, token: str, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """None for a function of the AWS provider."""
        answer = self.functions.get(token)
        return answer(given) if answer else None


def invented(planned: Value, of: Resource, block: Block) -> Value:
    """The planned state with a plausible value for everything that only AWS could tell; the same each time."""
    state = {
        name: _plausible(name, attribute.type, of) if is_unknown(planned[name]) else planned[name]
        for name, attribute in block.attributes.items()
    }
    for name, nested in block.blocks.items():
        value = planned[name]
        if value is None or is_unknown(value):
            state[name] = None if nested.single else {} if nested.keyed else []
        elif nested.single:
            state[name] = invented(value, of, nested.block)
        elif nested.keyed:
            state[name] = {key: invented(each, of, nested.block) for key, each in value.items()}
        else:
            state[name] = [invented(each, of, nested.block) for each in value]
    return state


def _plausible(name: str, type_: Type, of: Resource) -> Value:
    if not isinstance(type_, str):
        return {} if type_[0] == "map" else []
    if type_ == "bool":
        return False
    digest = hashlib.sha256(of.urn.encode()).hexdigest()
    if type_ == "number":
        return int(digest[:4], 16)
    if name == "arn":
        service = of.type.split("_")[1]
        return f"arn:aws:{service}::123456789012:{of.type.removeprefix(f'aws_{service}_')}/{of.name}"
    return f"{name.upper()[:4]}{digest[:12].upper()}"
