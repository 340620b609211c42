"""The emulated account as the doctor sees it: with EC2's quotas, and with permissions that a test takes away."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

from rehearsal import answers
from rehearsal.account import Account
from rehearsal.answers import Answer
from rehearsal.calls import Call
from rehearsal.faults import Faults

_QUOTAS = "servicequotas"
_CHANGED, _DEFAULT = "GetServiceQuota", "GetAWSDefaultServiceQuota"


class Examined(Account):
    """An account whose quotas were set by its owner (``quotas``) or by AWS (``defaults``), in vCPUs by code.

    ``forbidden`` holds what nobody may call, as "service:Operation" in the words of the signature; ``expired`` makes
    every call fail for its credentials.
    """

    def __init__(self) -> None:
        super().__init__(Faults())
        self.quotas: dict[str, float] = {}
        self.defaults: dict[str, float] = {}
        self.forbidden: set[str] = set()
        self.expired = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        answer = self._own(Call.read(environ, body))
        return super().__call__(environ, start_response) if answer is None else answer.send(start_response)

    def _own(self, call: Call) -> Answer | None:
        if self.expired:
            return answers.refused(call.service, "ExpiredToken", "The token expired", status=403)
        if call.name in self.forbidden:
            return answers.denied(call.service, "not authorized")
        if call.service != _QUOTAS:
            return None
        quotas = {_CHANGED: self.quotas, _DEFAULT: self.defaults}[call.operation]
        code = call.document["QuotaCode"]
        if code not in quotas:
            return answers.refused(call.service, "NoSuchResourceException", "no such quota")
        told = json.dumps({"Quota": {"QuotaCode": code, "Value": quotas[code]}})
        return Answer(200, "application/x-amz-json-1.1", told.encode())
