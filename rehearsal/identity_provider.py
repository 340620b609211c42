"""A sign-in provider for the desk: OpenID Connect with ID tokens, on loopback, for whoever asks.

It believes everybody, so it is of the rehearsal alone: the control plane trusts it because the desk's parameters say
so, as those of a deployment say of Google.
"""

from __future__ import annotations

import html
import json
import secrets
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from rehearsal.server_thread import ServerThread

NAME = "Desk"
CLIENT_ID = "diogenes-desk"
TOKEN_S = 3600

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in at the desk</title>
<h1>Sign in at the desk</h1>
<p>This provider believes everybody. It exists in the rehearsal only.</p>
<form method="post">
<p><label>Address <input name="email" type="email" value="{email}" required autofocus></label></p>
<p><label><input name="unverified" type="checkbox"> not verified</label></p>
<p><button>Sign in</button> <button name="deny" value="1" formnovalidate>Cancel</button></p>
</form></html>
"""


class IdentityProvider(AbstractContextManager["IdentityProvider"]):
    """Listens on any free port between entering and leaving; ``url`` is its issuer."""

    def __init__(self, *, redirect_uri: str, email: str) -> None:
        self.redirect_uri = redirect_uri
        self.email = email  # that the page proposes
        self._key = _new_key()
        provider = self

        class Handler(_Handler):
            served = provider

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._thread = ServerThread(server)

    def __enter__(self) -> IdentityProvider:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.end()

    def rotate(self) -> None:
        """A new key from now on; the old one is not shown any more."""
        self._key = _new_key()

    def configuration(self) -> Mapping[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def keys(self) -> Mapping[str, Any]:
        return {"keys": [{**self._key.as_dict(private=False), "use": "sig", "alg": "RS256"}]}

    def id_token(self, *, email: str, nonce: str | None = None, **claims: Any) -> str:
        """Signed now; ``claims`` in the place of its own."""
        now = int(time.time())
        told = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": email,
            "email": email,
            "email_verified": True,
            "iat": now,
            "exp": now + TOKEN_S,
            **({"nonce": nonce} if nonce else {}),
            **claims,
        }
        return jwt.encode({"alg": "RS256", "kid": self._key.kid}, told, self._key)

    def refusal(self, asked: Mapping[str, str]) -> str:
        """Why there is no page for this question; empty where there is one."""
        expected = {"client_id": CLIENT_ID, "redirect_uri": self.redirect_uri, "response_type": "id_token"}
        wrong = [name for name, value in expected.items() if asked.get(name) != value]
        wrong += [name for name in ("state", "nonce") if not asked.get(name)]
        return f"wrong or missing: {', '.join(wrong)}" if wrong else ""

    def way_back(self, asked: Mapping[str, str], form: Mapping[str, str]) -> str:
        """The address that the browser goes to with its answer."""
        if "deny" in form:
            answer = {"error": "access_denied", "state": asked["state"]}
        else:
            token = self.id_token(
                email=form.get("email", ""), nonce=asked["nonce"], email_verified="unverified" not in form
            )
            answer = {"id_token": token, "state": asked["state"]}
        return f"{self.redirect_uri}#{urlencode(answer)}"


class _Handler(BaseHTTPRequestHandler):
    served: IdentityProvider

    def do_GET(self) -> None:
        told = urlsplit(self.path)
        match told.path:
            case "/.well-known/openid-configuration":
                self._json(self.served.configuration())
            case "/keys":
                self._json(self.served.keys())
            case "/authorize":
                asked = dict(parse_qsl(told.query))
                proposed = html.escape(asked.get("login_hint") or self.served.email)
                why = self.served.refusal(asked)
                self._send(400 if why else 200, (why or _PAGE.format(email=proposed)).encode(), "text/html")
            case _:
                self._send(404, b"nothing here", "text/plain")

    def do_POST(self) -> None:
        told = urlsplit(self.path)
        length = min(int(self.headers.get("content-length") or 0), 65536)
        form = dict(parse_qsl(self.rfile.read(length).decode()))
        asked = dict(parse_qsl(told.query))
        if told.path != "/authorize" or self.served.refusal(asked):
            self._send(400, b"nothing to sign in to", "text/plain")
            return
        self.send_response(303)
        self.send_header("Location", self.served.way_back(asked, form))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Tokens stand in addresses: nothing is logged."""

    def _json(self, document: Mapping[str, Any]) -> None:
        self._send(200, json.dumps(document).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def _new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": secrets.token_hex(8)}, private=True)
