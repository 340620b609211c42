"""A resource's properties, from Pulumi's shape into the provider's and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.runtime import rpc
from pulumi.runtime.rpc import UNKNOWN as PULUMI_UNKNOWN

from tests.provider import naming
from tests.provider.naming import PropertyTypes
from tests.provider.schema import Block, Nested, Type
from tests.provider.wire import UNKNOWN, ProviderError, Value, is_unknown


@dataclass
class ToProvider:
    """Translates one resource's inputs; ``dropped`` then holds the properties that this provider does not have.

    Assets are laid down in ``assets``, under names made of their content.
    """

    type: str  # the provider's
    assets: Path
    dropped: set[str] = field(default_factory=set)

    def arguments(self, inputs: Mapping[str, Any], block: Block, types: PropertyTypes) -> dict[str, Value]:
        """Raises ProviderError for a property that not even Pulumi knows."""
        return self._arguments(inputs, block, types, where=self.type)

    def _arguments(
        self, inputs: Mapping[str, Any], block: Block, types: PropertyTypes, *, where: str
    ) -> dict[str, Value]:
        given: dict[str, Value] = {}
        for property_, value in inputs.items():
            if value is None or property_.startswith("__"):
                continue
            if property_ not in types:
                raise ProviderError(f"{where}: unknown property {property_}; there are {sorted(types.by_name)}")
            path = f"{where}.{property_}"
            name = naming.argument(property_, block, of_type=self.type if where == self.type else "")
            if name is None:
                self.dropped.add(path)
            elif name in block.blocks:
                given[name] = self._blocks(value, block.blocks[name], types.below(property_), where=path)
            else:
                given[name] = self._value(value, block.attributes[name].type, types.below(property_), where=path)
        return given

    def _blocks(self, value: Any, nested: Nested, types: PropertyTypes | None, *, where: str) -> Value:
        if isinstance(value, Unknown):
            return UNKNOWN
        if nested.single:
            return self._block(value, nested, types, where=where)
        if nested.keyed:
            return {key: self._block(each, nested, types, where=where) for key, each in value.items()}
        return [
            self._block(each, nested, types, where=where) for each in (value if isinstance(value, list) else [value])
        ]

    def _block(self, value: Any, nested: Nested, types: PropertyTypes | None, *, where: str) -> Value:
        if isinstance(value, Unknown):
            return UNKNOWN
        if not isinstance(value, Mapping) or types is None:
            raise ProviderError(f"{where}: an object is expected, not {value!r}")
        return self._arguments(value, nested.block, types, where=where)

    def _value(self, value: Any, type_: Type, types: PropertyTypes | None, *, where: str) -> Value:
        if isinstance(value, Unknown):
            return UNKNOWN
        if isinstance(value, pulumi.Asset):
            return str(self._laid_down(value))
        if isinstance(type_, str) or value is None:
            return value
        kind, element = type_
        if kind in ("list", "set"):
            values = value if isinstance(value, list) else [value]
            return [self._value(each, element, types, where=where) for each in values]
        if not isinstance(value, Mapping):
            raise ProviderError(f"{where}: an object is expected, not {value!r}")
        if kind == "map":
            return {key: self._value(each, element, types, where=where) for key, each in value.items()}
        return self._object(value, element, types, where=where)

    def _object(self, value: Mapping[str, Any], fields: Mapping[str, Type], types: Any, *, where: str) -> Value:
        """An object that the provider declares as a value rather than as a block."""
        given = dict.fromkeys(fields)
        for property_, each in value.items():
            name = naming.argument(property_, fields)
            if types is None or property_ not in types:
                raise ProviderError(f"{where}: unknown property {property_}")
            if name is None:
                self.dropped.add(f"{where}.{property_}")
            else:
                given[name] = self._value(each, fields[name], types.below(property_), where=f"{where}.{property_}")
        return given

    def _laid_down(self, asset: Any) -> Path:
        content = asset.text.encode() if isinstance(asset, pulumi.StringAsset) else Path(asset.path).read_bytes()
        path = self.assets / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        return path


def from_provider(state: Mapping[str, Value], types: PropertyTypes, *, of_type: str = "") -> dict[str, Any]:
    """Everything that a program may read of a resource; what is not known yet as Pulumi's own mark of it."""
    found = {}
    for property_ in types.by_name:
        name = naming.argument(property_, state, of_type=of_type)
        if name is not None and state.get(name) is not None:
            value = state[name]
            if isinstance(value, list) and not types.many(property_):
                value = value[0] if value else None
            found[property_] = _outward(value, types.below(property_))
    return found


def _outward(value: Value, types: PropertyTypes | None) -> Any:
    if is_unknown(value):
        return PULUMI_UNKNOWN
    if isinstance(value, list):
        return [_outward(each, types) for each in value]
    if isinstance(value, Mapping):
        return from_provider(value, types) if types else {key: _outward(each, None) for key, each in value.items()}
    return value


def opened(value: Any) -> Any:
    """Without the wrapping of secrets."""
    if rpc.is_rpc_secret(value):
        return opened(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {key: opened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [opened(each) for each in value]
    return value
