"""Terraform's plugin protocol on the wire: one call of the provider, and how its values and complaints are written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc  # type: ignore[import-untyped]

_PROTO = Path(__file__).with_name("tfplugin5.proto")
_SERVICE = "tfplugin5.Provider"
_ERROR = 1

Value = Any
"""A value of Terraform's type system as plain Python: None, text, numbers, lists, dicts, and UNKNOWN."""

UNKNOWN = msgpack.ExtType(0, b"\0")


class ProviderError(Exception):
    """The provider refuses. The message holds its own words."""


def is_unknown(value: Value) -> bool:
    """Whether it will only be known after the apply. A provider may say more about an unknown; we do not read it."""
    return isinstance(value, msgpack.ExtType)


class Calls:
    """The provider's methods by name, over one channel. Safe for threads."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.default_authority", "localhost")]
        self._channel = grpc.insecure_channel(address, options=options)
        self._pool = _descriptors()
        self._methods = {
            method.name: self._channel.unary_unary(
                f"/{_SERVICE}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            for method in self._pool.FindServiceByName(_SERVICE).methods
        }
        self._requests = {
            method.name: message_factory.GetMessageClass(method.input_type)
            for method in self._pool.FindServiceByName(_SERVICE).methods
        }

    def __call__(self, method: str, *, timeout_s: float = 120.0, **fields: Any) -> Any:
        """Raises ProviderError for its diagnostics of severity error; ``error.response`` is then the whole answer."""
        response = self._methods[method](self._requests[method](**fields), timeout=timeout_s)
        complaints = [_words(each) for each in getattr(response, "diagnostics", ()) if each.severity == _ERROR]
        if complaints:
            refusal = ProviderError(f"{fields.get('type_name', method)}: {'; '.join(complaints)}")
            refusal.response = response  # type: ignore[attr-defined]  # a failed apply tells what it made all the same
            raise refusal
        return response

    def close(self) -> None:
        self._channel.close()


def pack(value: Value) -> dict[str, bytes]:
    """As a DynamicValue's fields."""
    return {"msgpack": msgpack.packb(value)}


def unpack(dynamic: Any) -> Value:
    """Of a DynamicValue."""
    if dynamic.msgpack:
        return msgpack.unpackb(dynamic.msgpack, strict_map_key=False)
    return json.loads(dynamic.json) if dynamic.json else None


def steps(path: Any) -> Sequence[str]:
    """An AttributePath's names, keys and indexes."""
    return [step.attribute_name or step.element_key_string or str(step.element_key_int) for step in path.steps]


def _words(diagnostic: Any) -> str:
    where = ".".join(steps(diagnostic.attribute))
    return " ".join(part for part in (diagnostic.summary, diagnostic.detail, f"({where})" if where else "") if part)


def _descriptors() -> descriptor_pool.DescriptorPool:
    """The protocol, compiled now: generated code would have to match each version of protobuf."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder, "protocol")
        status = protoc.main(["", f"-I{_PROTO.parent}", f"--descriptor_set_out={compiled}", _PROTO.name])
        if status != 0:
            raise RuntimeError(f"{_PROTO.name} does not compile")
        found = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    return pool
