"""An issuer of ID tokens in memory, honest unless a test says otherwise."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from control_plane.people import Flow, Provider
from tests.memory_people import MemoryWeb

URL = "https://login.example.org"
CLIENT = "diogenes"
PROVIDER = Provider("work", "Work", Flow.OIDC, CLIENT, issuer=URL)

_KEYS: Mapping[str, RSAKey | ECKey] = {
    "one": RSAKey.generate_key(2048, {"kid": "one"}, private=True),
    "two": RSAKey.generate_key(2048, {"kid": "two"}, private=True),
    "curve": ECKey.generate_key("P-256", {"kid": "curve"}, private=True),
}
"""Made once: an RSA key takes its time."""


@dataclass
class Issuer:
    """``shown`` are the keys of its document; a token is signed by ``signing``."""

    web: MemoryWeb
    clock: Callable[[], float]
    url: str = URL
    signing: str = "one"
    shown: list[str] = field(default_factory=lambda: ["one"])

    def __post_init__(self) -> None:
        self.publish()

    def publish(self) -> None:
        self.web.documents[f"{self.url}/.well-known/openid-configuration"] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "jwks_uri": f"{self.url}/keys",
        }
        self.web.documents[f"{self.url}/keys"] = {"keys": [public(name) for name in self.shown]}

    def rotate(self) -> None:
        self.signing, self.shown = "two", ["two"]
        self.publish()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good ones with changes; None takes one away."""
        now = int(self.clock())
        good = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "1",
            "email": "ann@example.com",
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        return self.signed(json.dumps(self.claims(**changes)), header)

    def signed(self, payload: str, header: Mapping[str, Any] | None = None) -> str:
        """Any payload, with a good signature."""
        told = {"alg": "RS256", "kid": self.signing, **(header or {})}
        told = {name: value for name, value in told.items() if value is not None}
        return compact(told, payload, key(self.signing))


def key(name: str) -> RSAKey | ECKey:
    return _KEYS[name]


def public(name: str) -> dict[str, Any]:
    return {**_KEYS[name].as_dict(private=False), "use": "sig"}


def compact(header: Mapping[str, Any], payload: str, signer: Any) -> str:
    """Signed whatever the header says, as somebody does who breaks the rules."""
    head, body = encode(json.dumps(header).encode()), encode(payload.encode())
    algorithm = jws.JWSRegistry.algorithms[str(header["alg"])]
    return f"{head}.{body}.{encode(algorithm.sign(f'{head}.{body}'.encode(), signer))}"


def encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
