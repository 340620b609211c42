"""One resource under two names: what Pulumi calls a type and its properties, and what the provider calls them.

Pulumi's AWS package is made from a newer version of the same provider, and most names follow by rule: camelCase for
snake_case, a plural where a list is. What does not is written down here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args, get_origin

from pulumi import _types as pulumi_types

from tests.provider.wire import ProviderError


class Catalogue(Protocol):
    """What types there are."""

    def knows(self, type_: str) -> bool: ...

    def knows_data(self, type_: str) -> bool: ...


_MODULES = {"lambda": "lambda_", "index": ""}  # of the Python package

_TYPES = {
    "lb/loadBalancer": "aws_lb",
    "s3/bucketObjectv2": "aws_s3_object",
}

_PROPERTIES: Mapping[str, Mapping[str, str]] = {
    "aws_cloudwatch_metric_alarm": {"name": "alarm_name"},
    "aws_lambda_function": {"name": "function_name"},
    "aws_lambda_permission": {"function": "function_name"},
    "aws_sns_topic_subscription": {"topic": "topic_arn"},
}


def resource_type(token: str, catalogue: Catalogue) -> str:
    """The provider's name of a type such as "aws:ec2/vpc:Vpc". Raises ProviderError when it has none."""
    return _first(token, token.split(":")[1], catalogue.knows)


def data_type(token: str, catalogue: Catalogue) -> str:
    """The provider's name of a function such as "aws:index/getAvailabilityZones:getAvailabilityZones"."""
    module, _, name = token.split(":")[1].partition("/get")
    return _first(token, f"{module}/{name}", catalogue.knows_data)


def _first(token: str, path: str, known: Any) -> str:
    module, _, name = path.partition("/")
    candidates = (_TYPES.get(path, ""), f"aws_{snake(module)}_{snake(name)}", f"aws_{snake(name)}")
    found = next((each for each in candidates if known(each)), None)
    if found is None:
        raise ProviderError(f"{token}: this provider has no such type")
    return found


@dataclass(frozen=True)
class PropertyTypes:
    """What Pulumi's own classes say of a type's properties."""

    by_name: Mapping[str, Any]

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def below(self, name: str) -> PropertyTypes | None:
        """Those of what this property holds, one or many; None when that has none."""
        return _nested(_unwrapped(self.by_name[name]))

    def many(self, name: str) -> bool:
        """Whether the property is a list."""
        return get_origin(_unwrapped(self.by_name[name])) in (Sequence, list)


@functools.cache
def resource_properties(token: str) -> PropertyTypes:
    return PropertyTypes(dict(pulumi_types.resource_types(resource_class(token))))


@functools.cache
def resource_class(token: str) -> Any:
    return getattr(_module(token), token.split(":")[2])


@functools.cache
def result_properties(token: str) -> PropertyTypes:
    """Of a function's result."""
    name = token.split(":")[2]
    return PropertyTypes(dict(pulumi_types.output_type_types(getattr(_module(token), f"G{name[1:]}Result"))))


def argument(property_: str, known: Container[str], *, of_type: str = "") -> str | None:
    """The provider's name of a property, among those that it knows."""
    renamed = _PROPERTIES.get(of_type, {}).get(property_)
    return renamed or next((each for each in _numbers(snake(property_)) if each in known), None)


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def autonamed(token: str, known: Container[str]) -> str | None:
    """The property that Pulumi fills with a name of its own making when the program does not.

    Only where Pulumi lets the program leave it out. A bucket's is ``bucket``.
    """
    property_ = "bucket" if token == "aws:s3/bucket:Bucket" else "name"
    return property_ if property_ in _optional_inputs(token) and argument(property_, known) else None


@functools.cache
def _optional_inputs(token: str) -> frozenset[str]:
    arguments = getattr(_module(token), f"{token.split(':')[2]}Args")
    inputs = inspect.signature(arguments).parameters.values()
    return frozenset(each.name for each in inputs if each.default is not inspect.Parameter.empty)


def _numbers(name: str) -> Iterator[str]:
    """The name, then what may be its singular."""
    yield name
    if name.endswith("ies"):
        yield f"{name[:-3]}y"
    if name.endswith("es"):
        yield name[:-2]
    if name.endswith("s"):
        yield name[:-1]


def _module(token: str) -> Any:
    module = token.split(":")[1].split("/")[0]
    name = _MODULES.get(module, module)
    return importlib.import_module(f"pulumi_aws.{name}" if name else "pulumi_aws")


def _unwrapped(type_: Any) -> Any:
    return pulumi_types.unwrap_type(type_)


def _nested(type_: Any) -> PropertyTypes | None:
    for each in (*reversed(get_args(type_)), type_):
        if isinstance(each, type) and pulumi_types.is_output_type(each):
            return PropertyTypes(dict(pulumi_types.output_type_types(each)))
    return None
