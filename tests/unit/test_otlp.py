"""What goes out is what the protocol's own definitions read; whatever the endpoint does is told as not sent."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.exceptions import ClientError
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from control_plane.otlp import Headers, Otlp, SsmHeaders, encoded, parsed
from control_plane.spans import Context, NotSent, Span

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROOT = Span(
    Context(TRACE, "00f067aa0ba902b7"),
    "POST /v1/x",
    1_795_000_000.25,
    1_795_000_001.5,
    {"text": "a", "whole": 2**40, "part": 0.5, "so": True},
    serves=True,
    error="503",
    links=[Context("a" * 32, "b" * 16)],
)
CHILD = Span(Context(TRACE, "c" * 16, "00f067aa0ba902b7"), "wish", 1_795_000_000.5, 1_795_000_000.25)


def read(body: bytes) -> ExportTraceServiceRequest:
    """By the definitions of OpenTelemetry. JSON holds ids in hexadecimal there, where Protobuf's own has base64."""

    def ids(value: Any) -> Any:
        if isinstance(value, list):
            return [ids(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            name: base64.b64encode(bytes.fromhex(each)).decode() if name.endswith(("Id",)) else ids(each)
            for name, each in value.items()
        }

    return ParseDict(ids(json.loads(body)), ExportTraceServiceRequest())


def test_the_protocols_definitions_read_what_is_sent() -> None:
    request = read(encoded([ROOT, CHILD], {"service.name": "diogenes"}))
    (resource,) = request.resource_spans
    assert [(each.key, each.value.string_value) for each in resource.resource.attributes] == [
        ("service.name", "diogenes")
    ]
    root, child = resource.scope_spans[0].spans
    assert (root.trace_id.hex(), root.span_id.hex(), root.parent_span_id.hex()) == (TRACE, "00f067aa0ba902b7", "")
    assert (root.name, root.kind, root.status.code, root.status.message) == ("POST /v1/x", 2, 2, "503")
    assert root.start_time_unix_nano == 1_795_000_000_250_000_000
    assert root.end_time_unix_nano - root.start_time_unix_nano == 1_250_000_000
    told = {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in root.attributes}
    assert told == {"text": "a", "whole": 2**40, "part": 0.5, "so": True}
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in root.links] == [("a" * 32, "b" * 16)]
    assert (child.parent_span_id, child.kind, child.status.code) == (root.span_id, 1, 0)
    assert child.end_time_unix_nano == child.start_time_unix_nano  # no span ends before it begins


def test_headers_are_pairs_percent_encoded_where_need_be() -> None:
    assert parsed("x-key=abc%3D%3D, authorization=Basic%20xyz,odd,") == {
        "x-key": "abc==",
        "authorization": "Basic xyz",
    }


class Endpoint:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.hangs = False
        self.seen: list[tuple[Mapping[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append((dict(request.headers), await request.read()))
        if self.hangs:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers={"location": "/elsewhere"})


async def keyed() -> Mapping[str, str]:
    return {"x-key": "secret"}


@asynccontextmanager
async def sending(endpoint: Endpoint, headers: Headers = keyed) -> AsyncIterator[Otlp]:
    app = web.Application()
    app.router.add_post("/v1/traces", endpoint.handle)
    async with TestServer(app) as server:
        url = str(server.make_url("/v1/traces"))
        async with Otlp(url, namespace="diogenes-desk", headers=headers) as otlp:
            yield otlp


async def test_a_batch_is_posted_with_what_the_endpoint_wants_to_be_told() -> None:
    endpoint = Endpoint()
    async with sending(endpoint) as otlp:
        await otlp([ROOT])
        await otlp([CHILD])
    headers, body = endpoint.seen[0]
    assert (headers["x-key"], headers["Content-Type"]) == ("secret", "application/json")
    assert read(body).resource_spans[0].scope_spans[0].spans[0].name == "POST /v1/x"
    assert len(endpoint.seen) == 2


@pytest.mark.parametrize(
    ("status", "final"), [(307, True), (400, True), (401, True), (404, True), (429, False), (503, False)]
)
async def test_an_endpoint_that_refuses_is_asked_again_where_that_may_help(status: int, final: bool) -> None:
    endpoint = Endpoint()
    endpoint.status = status
    async with sending(endpoint) as otlp:
        with pytest.raises(NotSent, match=str(status)) as refused:
            await otlp([ROOT])
    assert refused.value.final is final
    assert len(endpoint.seen) == 1  # a key is never taken elsewhere


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_was_replaced_is_read_again_for_the_next_batch(status: int) -> None:
    endpoint, told = Endpoint(), [{"x-key": "old"}, {"x-key": "new"}]

    async def replaced() -> Mapping[str, str]:
        return told.pop(0)

    async with sending(endpoint, replaced) as otlp:
        endpoint.status = status
        with pytest.raises(NotSent):
            await otlp([ROOT])
        endpoint.status = 200
        await otlp([CHILD])
        await otlp([CHILD])
    assert [headers["x-key"] for headers, _ in endpoint.seen] == ["old", "new", "new"]


async def test_an_endpoint_that_is_not_there_may_be_later() -> None:
    async with Otlp("http://127.0.0.1:1/v1/traces", namespace="d", headers=keyed) as otlp:
        with pytest.raises(NotSent, match="ClientConnectorError") as refused:
            await otlp([ROOT])
    assert not refused.value.final


async def test_an_endpoint_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.otlp.LIMIT_S", 0.05)
    endpoint = Endpoint()
    endpoint.hangs = True
    async with sending(endpoint) as otlp:
        with pytest.raises(NotSent, match="TimeoutError"):
            await otlp([ROOT])


class Parameters:
    """A session, and its client of SSM, as far as they are used."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def client(self, service_name: str, **_: object) -> Parameters:
        assert service_name == "ssm"
        return self

    async def __aenter__(self) -> Parameters:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def get_parameter(self, **asked: object) -> Mapping[str, Any]:
        assert asked == {"Name": "/d/traces-headers", "WithDecryption": True}
        if self.error:
            raise self.error
        return {"Parameter": {"Value": "x-key=secret"}}


async def test_headers_are_read_from_their_parameter_where_there_is_one() -> None:
    assert await SsmHeaders("/d/traces-headers", session=Parameters())() == {"x-key": "secret"}
    assert await SsmHeaders("", session=Parameters())() == {}


async def test_headers_that_cannot_be_read_are_read_another_time() -> None:
    error = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "secret"}}, "GetParameter")
    with pytest.raises(NotSent, match="AccessDenied") as refused:
        await SsmHeaders("/d/traces-headers", session=Parameters(error))()
    assert not refused.value.final
    assert "secret" not in str(refused.value)


def test_who_traces_nothing_and_is_not_asked_for_metrics_loads_nothing_for_it() -> None:
    program = "import control_plane.night, control_plane.janitor, control_plane.cli, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "control_plane.night" in loaded
    assert not {
        "control_plane.traces",
        "control_plane.otlp",
        "control_plane.exposition",
        "prometheus_client",
        "opentelemetry.sdk",
        "google.protobuf",
    } & set(loaded)
