"""What the provider knows of a type: its arguments, how a value of them is written, and what a plan proposes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.provider.wire import ProviderError, Value, is_unknown

Type = Any
"""A type as the schema's JSON has it: "string", or ["list", "string"], or ["object", {…}]."""

_SINGLE, _LIST, _SET, _MAP, _GROUP = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Attribute:
    """One argument or result."""

    type: Type
    required: bool
    optional: bool
    computed: bool

    @property
    def settable(self) -> bool:
        return self.required or self.optional


@dataclass(frozen=True)
class Nested:
    """A block within a block."""

    block: Block
    nesting: int

    @property
    def single(self) -> bool:
        return self.nesting in (_SINGLE, _GROUP)

    @property
    def keyed(self) -> bool:
        return self.nesting == _MAP

    @property
    def unordered(self) -> bool:
        return self.nesting == _SET


@dataclass(frozen=True)
class Block:
    """The arguments of a type, or of a block in it."""

    attributes: Mapping[str, Attribute]
    blocks: Mapping[str, Nested]

    @classmethod
    def of(cls, message: Any) -> Block:
        attributes = {
            each.name: Attribute(json.loads(each.type or b'"dynamic"'), each.required, each.optional, each.computed)
            for each in message.attributes
        }
        blocks = {each.type_name: Nested(cls.of(each.block), each.nesting) for each in message.block_types}
        return cls(attributes, blocks)

    def __contains__(self, name: object) -> bool:
        return name in self.attributes or name in self.blocks

    def value(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """The whole value, with everything that is not given absent. Raises ProviderError for what does not fit."""
        if strange := [name for name in given if name not in self]:
            raise ProviderError(f"unknown arguments {sorted(strange)}")
        whole: dict[str, Value] = {
            name: _typed(given.get(name), attribute.type, name) for name, attribute in self.attributes.items()
        }
        for name, nested in self.blocks.items():
            whole[name] = _block_value(nested, given.get(name))
        return whole

    def proposed(self, config: Value, prior: Value) -> Value:
        """What the next state would be, as Terraform proposes it: computed values stay where nothing new is asked."""
        if prior is None or config is None or is_unknown(config):
            return config
        merged = {
            name: prior.get(name) if attribute.computed and config.get(name) is None else config.get(name)
            for name, attribute in self.attributes.items()
        }
        for name, nested in self.blocks.items():
            merged[name] = _proposed_block(nested, config.get(name), prior.get(name))
        return merged


def _block_value(nested: Nested, given: Value) -> Value:
    if given is not None and is_unknown(given):
        return given
    if nested.nesting == _GROUP:
        return nested.block.value(given or {})
    if nested.nesting == _SINGLE:
        return None if given is None else nested.block.value(given)
    if nested.keyed:
        return {key: nested.block.value(each) for key, each in (given or {}).items()}
    return [each if is_unknown(each) else nested.block.value(each) for each in given or []]


def _proposed_block(nested: Nested, config: Value, prior: Value) -> Value:
    if config is None or prior is None or is_unknown(config):
        return config
    if nested.single:
        return nested.block.proposed(config, prior)
    if nested.keyed:
        return {key: nested.block.proposed(each, prior.get(key)) for key, each in config.items()}
    if nested.unordered:
        return [nested.block.proposed(each, _alike(each, prior, nested.block)) for each in config]
    return [nested.block.proposed(each, dict(enumerate(prior)).get(index)) for index, each in enumerate(config)]


def _alike(config: Value, priors: Sequence[Value], block: Block) -> Value:
    """The element of a set that this one was: members have no name, so it is the one that says the same."""
    asked = {name: value for name, value in config.items() if not _computed(block, name, value)}
    return next((prior for prior in priors if all(prior.get(name) == value for name, value in asked.items())), None)


def _computed(block: Block, name: str, value: Value) -> bool:
    attribute = block.attributes.get(name)
    return attribute is not None and attribute.computed and value is None


def _typed(value: Value, type_: Type, where: str) -> Value:
    if value is None or is_unknown(value):
        return value
    if isinstance(type_, str):
        return _PRIMITIVES[type_](value, where)
    kind, element = type_
    if kind in ("list", "set"):
        if not isinstance(value, list):
            raise ProviderError(f"{where}: a list is expected, not {value!r}")
        return [_typed(each, element, where) for each in value]
    if kind == "map":
        return {key: _typed(each, element, f"{where}.{key}") for key, each in value.items()}
    return {name: _typed(value.get(name), each, f"{where}.{name}") for name, each in element.items()}


def _text(value: Value, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise ProviderError(f"{where}: a string is expected, not {value!r}")
    return str(value)


def _number(value: Value, where: str) -> int | float:
    try:
        number = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise ProviderError(f"{where}: a number is expected, not {value!r}")
    return int(number) if number.is_integer() else number


def _truth(value: Value, where: str) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise ProviderError(f"{where}: true or false is expected, not {value!r}")


_PRIMITIVES: Mapping[str, Callable[[Value, str], Value]] = {
    "string": _text,
    "number": _number,
    "bool": _truth,
    "dynamic": lambda value, _: value,
}
