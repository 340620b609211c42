"""What a registration asks for, and AWS's own interface to make it with. Nothing of it is dropped in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.model import ListShape, Shape, StructureShape
from moto.core.models import DEFAULT_ACCOUNT_ID
from pulumi.runtime import rpc

# Pulumi's names to AWS's, where they differ in more than a capital; a name with a dot is one of a structure.
_RENAMED = {"LaunchTemplateInstanceNetworkInterfaceSpecificationRequest.securityGroups": "groups"}


class Unmade(Exception):
    """A registration that the rehearsal does not understand; the message names the resource and what of it."""


@dataclass(frozen=True)
class Made:
    """One resource of the account: its id, and what AWS says about it beyond what was asked for."""

    id: str
    outputs: Mapping[str, Any] = field(default_factory=dict)


class Given:
    """The inputs of one registration. Every one is taken, or named as one that changes nothing here."""

    def __init__(self, kind: str, name: str, inputs: Mapping[str, Any]) -> None:
        self.kind = kind
        self.name = name  # in the program
        self._left = {key: _plain(value) for key, value in inputs.items() if value is not None}

    def take(self, key: str, default: Any = None) -> Any:
        return self._left.pop(key, default)

    def need(self, key: str) -> Any:
        """Raises Unmade for an input that must be there and is not."""
        if key not in self._left:
            raise Unmade(f"{self.kind} {self.name} lacks {key}")
        return self._left.pop(key)

    def rest(self) -> Mapping[str, Any]:
        """All that nobody took yet."""
        left, self._left = self._left, {}
        return left

    def pass_over(self, *keys: str) -> None:
        """Inputs without an effect in an emulated account."""
        for key in keys:
            self._left.pop(key, None)

    def finish(self) -> None:
        """Raises Unmade when something was left."""
        if self._left:
            raise Unmade(f"{self.kind} {self.name}: {', '.join(sorted(self._left))}: not understood")


Make = Callable[["Given", "Api"], Made]


class Api:
    """AWS's interface of the account as its owner sees it. Any thread."""

    # One session a process: it reads AWS's descriptions of its services once.
    _session = boto3.Session(aws_access_key_id="rehearsal", aws_secret_access_key="rehearsal")  # noqa: S106
    _lock = threading.Lock()

    def __init__(self, url: str, *, region: str) -> None:
        self.region = region
        self.account = DEFAULT_ACCOUNT_ID
        self._url = url
        self._clients: dict[str, Any] = {}

    def call(self, service: str, operation: str, **params: Any) -> Mapping[str, Any]:
        """One operation by AWS's name; parameters in Pulumi's spelling or AWS's, None for none. Raises Unmade."""
        client = self.client(service)
        shape = client.meta.service_model.operation_model(operation).input_shape
        try:
            fitted = _fitted({key: value for key, value in params.items() if value is not None}, shape)
        except (KeyError, ValueError, TypeError) as error:
            raise Unmade(f"{service}:{operation}: {error}") from error
        answer: Mapping[str, Any] = client._make_api_call(operation, fitted)
        return answer

    def client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                config = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)
                self._clients[service] = self._session.client(
                    service, region_name=self.region, endpoint_url=self._url, config=config
                )
            return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def _fitted(value: Any, shape: Shape) -> Any:
    """A value in the form that the operation takes: names in AWS's spelling, numbers and booleans of its types.

    Raises KeyError for a name that AWS does not know, ValueError and TypeError for values of another type.
    """
    match shape:
        case StructureShape():
            return {name: _fitted(part, shape.members[name]) for name, part in _members(value, shape).items()}
        case ListShape() if isinstance(value, Mapping):
            return [_fitted({"Key": key, "Value": text}, shape.member) for key, text in value.items()]  # tags
        case ListShape():
            return [_fitted(part, shape.member) for part in value]
    match shape.type_name:
        case "integer" | "long":
            return int(value)
        case "boolean":
            return value if isinstance(value, bool) else {"true": True, "false": False}[value]
        case "string":
            return str(value)
    return value


def _members(value: Mapping[str, Any], shape: StructureShape) -> Mapping[str, Any]:
    known = {name.lower(): name for name in shape.members}
    found = {}
    for key, part in value.items():
        name = _RENAMED.get(f"{shape.name}.{key}", key)
        if name.lower() not in known:
            raise KeyError(f"{shape.name} has no {key}")
        if part is not None:
            found[known[name.lower()]] = part
    return found


def _plain(value: Any) -> Any:
    """Without the wrapping of secrets."""
    if rpc.is_rpc_secret(value):
        return _plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
