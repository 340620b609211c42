"""Spans on their way to whoever keeps traces: OTLP over HTTP, in JSON, as its specification has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from urllib.parse import unquote

import aiohttp
import orjson

from control_plane.aws_client import AwsClient, Session
from control_plane.errors import Unavailable
from control_plane.spans import Attributes, NotSent, Span

LIMIT_S = 5.0  # for one batch
SERVICE = "diogenes"

_TRY_AGAIN = frozenset({408, 429, 502, 503, 504})
_NOT_AS_TOLD = frozenset({401, 403})
_KIND_INTERNAL, _KIND_SERVER = 1, 2
_STATUS_ERROR = 2

Headers = Callable[[], Awaitable[Mapping[str, str]]]
"""What the endpoint wants of us, such as its key. Raises NotSent."""


class Otlp:
    """Sends to one endpoint. Its session is opened by the first batch."""

    def __init__(self, endpoint: str, *, namespace: str, headers: Headers) -> None:
        """``endpoint`` is the whole URL, as a rule with the path /v1/traces; ``namespace`` tells deployments apart."""
        self._endpoint = endpoint
        self._resource: Attributes = {"service.name": SERVICE, "service.namespace": namespace}
        self._headers = headers
        self._told: Mapping[str, str] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Otlp:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def __call__(self, spans: Sequence[Span]) -> None:
        """Raises NotSent, final where the endpoint will not have them."""
        if self._told is None:
            self._told = await self._headers()
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S))
        headers = {**self._told, "content-type": "application/json"}
        try:
            async with self._session.post(
                self._endpoint, data=encoded(spans, self._resource), headers=headers, allow_redirects=False
            ) as reply:
                status = reply.status
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a header, too, may be none
            raise NotSent(f"the endpoint did not answer: {type(error).__name__}") from None
        if status in _NOT_AS_TOLD:
            self._told = None  # its key may have been replaced: the next batch goes with what is told then
        if status >= 300:
            raise NotSent(f"the endpoint answered {status}", final=status not in _TRY_AGAIN)


class SsmHeaders:
    """Headers from a parameter of SSM, as ``name=value,name=value``, percent-encoded where need be."""

    def __init__(self, parameter: str, *, session: Session | None = None) -> None:
        """``parameter``: its name; empty where the endpoint wants nothing. ``session`` as for AwsClient."""
        self._parameter = parameter
        self._ssm = AwsClient("ssm", connect_s=1, read_s=2, attempts=2, session=session)

    async def __call__(self) -> Mapping[str, str]:
        if not self._parameter:
            return {}
        try:
            async with self._ssm, self._ssm.asking("the endpoint's headers") as client:  # once in a process, as a rule
                told = await client.get_parameter(Name=self._parameter, WithDecryption=True)
        except Unavailable as error:
            raise NotSent(f"the endpoint's headers cannot be read: {error}") from None
        return parsed(told["Parameter"]["Value"])


def parsed(text: str) -> Mapping[str, str]:
    """The headers that a text names; what is no pair is left out."""
    pairs = [pair.partition("=") for pair in text.split(",") if "=" in pair]
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


def encoded(spans: Sequence[Span], resource: Attributes) -> bytes:
    """An ExportTraceServiceRequest in JSON."""
    scope = {"scope": {"name": SERVICE}, "spans": [_span(span) for span in spans]}
    return orjson.dumps({"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]})


def _span(span: Span) -> Mapping[str, object]:
    context = span.context
    return {
        "traceId": context.trace_id,
        "spanId": context.span_id,
        **({"parentSpanId": context.parent_id} if context.parent_id else {}),
        "name": span.name,
        "kind": _KIND_SERVER if span.serves else _KIND_INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(max(span.start, span.end)),  # clocks of two machines may disagree
        "attributes": _attributes(span.attributes),
        **({"status": {"code": _STATUS_ERROR, "message": span.error}} if span.error else {}),
        **(
            {"links": [{"traceId": link.trace_id, "spanId": link.span_id} for link in span.links]} if span.links else {}
        ),
    }


def _attributes(told: Attributes) -> Sequence[Mapping[str, object]]:
    return [{"key": name, "value": _value(value)} for name, value in told.items()]


def _value(value: str | int | float | bool) -> Mapping[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}


def _nanoseconds(at: float) -> str:
    """As text: JSON's numbers are too small for it."""
    return str(round(at * 1_000_000) * 1000)
