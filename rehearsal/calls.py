"""One call to the account, as it came in over HTTP: who signed it, of which service, what it asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

Params = Mapping[str, str]

_SCOPE_PARTS = 6  # of a signature: key, date, region, service, "aws4_request" and what follows


@dataclass(frozen=True)
class Call:
    """Read from headers and body; AWS's three ways to say what is wanted come out as one."""

    service: str  # as in the signature's scope
    operation: str  # for services without operations by name: method and path
    params: Params = field(default_factory=dict)  # of the query protocol; empty for the others
    key_id: str = ""  # whose access key signed
    region: str = ""
    method: str = "POST"
    path: str = "/"
    query: Params = field(default_factory=dict)
    body: bytes = b""

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"

    @property
    def document(self) -> Mapping[str, Any]:
        """The body of the JSON protocols."""
        told: Mapping[str, Any] = json.loads(self.body or b"{}")
        return told

    @classmethod
    def read(cls, environ: Mapping[str, Any], body: bytes) -> Call:
        scope = str(environ.get("HTTP_AUTHORIZATION", "")).split("/", _SCOPE_PARTS - 1)
        signed = len(scope) == _SCOPE_PARTS - 1 or len(scope) == _SCOPE_PARTS
        method, path = str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"])
        params: Params = {}
        if target := environ.get("HTTP_X_AMZ_TARGET"):
            operation = str(target).rpartition(".")[2]
        elif str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
            params = dict(parse_qsl(body.decode(), keep_blank_values=True))
            operation = params.get("Action", "")
        else:
            operation = f"{method} {path}"
        return cls(
            service=scope[3] if signed else "",
            operation=operation,
            params=params,
            key_id=scope[0].rpartition("=")[2] if signed else "",
            region=scope[2] if signed else "",
            method=method,
            path=unquote(path),
            query=dict(parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)),
            body=body,
        )
