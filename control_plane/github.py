"""Sign-in with GitHub, which makes no ID tokens: a code, exchanged with our secret, and the verified addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from control_plane.addresses import InvalidAddress, fold
from control_plane.errors import Unauthenticated, Unavailable
from control_plane.limits import Limits
from control_plane.people import Provider, Web

MAX_CODE_CHARS = 512
CODES_PER_MINUTE = 3  # of one sign-in that was begun


class GitHub:
    """One GitHub, or GitHub Enterprise, by the URLs of its provider."""

    def __init__(self, web: Web, limits: Limits) -> None:
        self._web = web
        self._limits = limits

    def authorize_url(self, provider: Provider, *, redirect_uri: str, state: str, challenge: str) -> str:
        """``challenge`` is of PKCE, S256."""
        told = {
            "client_id": provider.client_id,
            "redirect_uri": redirect_uri,
            "scope": "user:email",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{provider.authorize_url}?{urlencode(told)}"

    async def emails(self, provider: Provider, *, code: str, verifier: str, redirect_uri: str) -> Sequence[str]:
        """The addresses that GitHub has verified, folded, the primary one first.

        Raises Unauthenticated for a code that GitHub does not know, or without such an address; RateLimited,
        Unavailable.
        """
        if len(code) > MAX_CODE_CHARS:
            raise _refused()
        # Of each sign-in by itself, which its verifier names: whoever makes up codes locks out nobody else.
        self._limits.count(verifier, per_minute=CODES_PER_MINUTE, whose="A sign-in with GitHub")
        told = await self._web.post(
            provider.token_url,
            {
                "client_id": provider.client_id,
                "client_secret": provider.client_secret,
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            },
        )
        token = told.get("access_token") if isinstance(told, dict) else None
        if not isinstance(token, str) or not token:
            raise _refused()
        found = _verified(await self._web.get(provider.emails_url, bearer=token))
        if not found:
            raise Unauthenticated(f"{provider.name} has no verified address of yours.", code="email_not_verified")
        return found


def _verified(told: Any) -> Sequence[str]:
    if not isinstance(told, list):
        raise Unavailable("GitHub does not tell its user's addresses")
    rows = [row for row in told if isinstance(row, dict) and row.get("verified") is True]
    found = []
    for row in sorted(rows, key=lambda row: row.get("primary") is not True):
        try:
            found.append(fold(str(row.get("email"))))
        except InvalidAddress:
            continue
    return found


def _refused() -> Unauthenticated:
    return Unauthenticated("GitHub does not know this sign-in, or not any more. Sign in again.", code="invalid_code")
