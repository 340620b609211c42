"""ID tokens of OpenID Connect issuers: is it signed by the issuer, for us, now, and for a verified address?

A token is read strictly before any key is looked at: size, alphabet, one object without repeated names in header and
payload, an algorithm of the list. Keys come from the issuer's own document alone; what a header says about keys
(``jwk``, ``jku``, ``x5u``, ``x5c``) is not looked at, and extensions (``crit``, ``b64``) are refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from control_plane.addresses import InvalidAddress, fold
from control_plane.errors import Unauthenticated, Unavailable
from control_plane.people import Flow, Identity, Provider, Web
from control_plane.ports import Clock

if TYPE_CHECKING:
    from joserfc.jwk import Key

MAX_TOKEN_CHARS = 8192
SKEW_S = 60.0
KEYS_FRESH_S = 3600.0
KEYS_KEPT_S = 86400.0  # when the issuer does not answer any more
MAX_KEYS = 100
MIN_RSA_BITS = 2048

_KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
}
"""The algorithms that are taken, all with public keys, and the type of key that each may be used with."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

_ALIASES = {"accounts.google.com": "https://accounts.google.com"}  # Google signs as either


@dataclass(frozen=True)
class Unverified:
    """What a token says of itself; nobody vouches for any of it."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def algorithm(self) -> str:
        return str(self.header["alg"])

    @property
    def issuer(self) -> str:
        issuer = self.claims.get("iss")
        return _ALIASES.get(issuer, issuer) if isinstance(issuer, str) else ""


def read_token(token: str) -> Unverified:
    """Raises Unauthenticated for what is no signed token of a form that we take."""
    if len(token) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise _invalid("it is no signed token, or too long")
    header, claims = (_object(part) for part in token.split(".")[:2])
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _KEY_TYPES:
        raise _invalid(f"its algorithm is not one of {', '.join(_KEY_TYPES)}")
    if "crit" in header or "b64" in header:
        raise _invalid("it wants extensions")
    if not isinstance(header.get("kid", ""), str):
        raise _invalid("its key id is no text")
    return Unverified(header, claims)


def check_claims(claims: Mapping[str, Any], provider: Provider, *, now: float, nonce: str | None) -> Identity:
    """Of a token whose signature is good. ``nonce`` is that of the sign-in; None: a token brought by itself.

    Raises Unauthenticated: wrong_audience, token_expired, invalid_token, wrong_nonce, email_not_verified.
    """
    _check_audience(claims, provider)
    _check_times(claims, now)
    if nonce is not None and not _same(claims.get("nonce"), nonce):
        raise Unauthenticated("The sign-in was begun elsewhere. Sign in again.", code="wrong_nonce")
    if claims.get("email_verified") is not True:
        raise Unauthenticated(f"{provider.name} has not verified your email address.", code="email_not_verified")
    try:
        return Identity(fold(str(claims.get("email"))), provider.id)
    except InvalidAddress:
        raise _invalid("it names no plain email address") from None


class IdTokens:
    """Verifies tokens of any configured issuer, with the issuers' keys at hand."""

    def __init__(self, web: Web, *, clock: Clock, ask_again_s: float) -> None:
        """``ask_again_s``: after so long an issuer is asked again for a key that is not among the known ones."""
        self._web = web
        self._clock = clock
        self._ask_again_s = ask_again_s
        self._issuers: dict[str, Issuer] = {}

    async def verify(self, token: str, providers: Sequence[Provider], *, nonce: str | None = None) -> Identity:
        """Raises Unauthenticated; Unavailable when the issuer's keys cannot be had."""
        told = read_token(token)
        ours = [one for one in providers if one.flow is Flow.OIDC and one.issuer == told.issuer]
        if not ours:
            raise Unauthenticated("Nobody here trusts the issuer of this token.", code="wrong_issuer")
        key = await self.issuer(told.issuer).key(told)
        _check_signature(token, key, told.algorithm)
        # One issuer may know us under several clients.
        provider = next((one for one in ours if _for_client(told.claims, one.client_id)), ours[0])
        return check_claims(told.claims, provider, now=self._clock(), nonce=nonce)

    def issuer(self, url: str) -> Issuer:
        if url not in self._issuers:
            self._issuers[url] = Issuer(url, self._web, clock=self._clock, ask_again_s=self._ask_again_s)
        return self._issuers[url]


@dataclass
class Issuer:
    """One issuer's own document and keys, read when they are needed and kept for a while."""

    url: str
    web: Web
    clock: Clock = field(kw_only=True)
    ask_again_s: float = field(kw_only=True)
    _authorize_url: str = ""
    _keys: Sequence[Mapping[str, Any]] = ()
    _read_at: float = -math.inf
    _tried_at: float = -math.inf
    _reading: asyncio.Future[None] | None = None

    async def authorize_url(self) -> str:
        """Where a browser signs in. Raises Unavailable."""
        if not self._authorize_url:
            await self._renew()
        return self._authorize_url

    async def key(self, told: Unverified) -> Key:
        """The key that this token must be signed with. Raises Unauthenticated, Unavailable."""
        if self.clock() - self._read_at >= KEYS_FRESH_S:
            await self._renew()
        found = self._matching(told)
        if found is None and (self._reading or self._may_ask):  # they may have been rotated
            await self._read_anew()  # while it does not answer, nobody can say whose key that is
            found = self._matching(told)
        if found is None:
            raise _invalid("it is signed with a key that its issuer does not have")
        return found

    @property
    def _may_ask(self) -> bool:
        return self.clock() - self._tried_at >= self.ask_again_s

    async def _renew(self) -> None:
        """Read anew. Raises Unavailable without keys that may still be used."""
        try:
            await self._read_anew()
        except Unavailable:
            if self.clock() - self._read_at >= KEYS_KEPT_S:
                raise

    async def _read_anew(self) -> None:
        """Once for all who want it meanwhile. Raises Unavailable."""
        await asyncio.shield(self._begin())  # who came first may leave first

    def _begin(self) -> asyncio.Future[None]:
        """What is being read, or a new read, at most every ``ask_again_s``. Raises Unavailable when it is too early."""
        if self._may_ask:  # a read that is older was frozen with its process, and may never end
            self._tried_at = self.clock()
            self._reading = asyncio.ensure_future(self._read(self._tried_at))
            self._reading.add_done_callback(self._done)
        if self._reading is None:
            raise Unavailable(f"{self.url} did not answer a moment ago")
        return self._reading

    def _done(self, reading: asyncio.Future[None]) -> None:
        if not reading.cancelled():
            reading.exception()  # seen, even where everybody left
        if reading is self._reading:
            self._reading = None

    async def _read(self, now: float) -> None:
        told = _document(await self.web.get(f"{self.url.rstrip('/')}/.well-known/openid-configuration"), self.url)
        keys = _usable(await self.web.get(told["jwks_uri"]))
        if now >= self._read_at:  # else a later read was faster
            self._authorize_url, self._keys, self._read_at = told["authorization_endpoint"], keys, now

    def _matching(self, told: Unverified) -> Key | None:
        kid = told.header.get("kid")
        fitting = [
            key
            for key in self._keys
            if key.get("kty") == _KEY_TYPES[told.algorithm]
            and key.get("alg", told.algorithm) == told.algorithm
            and (kid is None or key.get("kid") == kid)
        ]
        return _imported(fitting[0]) if len(fitting) == 1 else None  # without an id, only where there is no choice


def _object(part: str) -> Mapping[str, Any]:
    try:
        value = json.loads(
            base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
        )
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("it cannot be read") from None
    if not isinstance(value, dict):
        raise _invalid("it cannot be read")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of one document must not see two different things."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_signature(token: str, key: Key, algorithm: str) -> None:
    from joserfc import jws  # here, so that a process that meets no token starts without it
    from joserfc.errors import JoseError

    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    try:
        jws.deserialize_compact(token, key, registry=registry)
    except (JoseError, ValueError):
        raise _invalid("its signature is wrong") from None


def _check_audience(claims: Mapping[str, Any], provider: Provider) -> None:
    if not _for_client(claims, provider.client_id):
        raise Unauthenticated("This token was made for another application.", code="wrong_audience")


def _for_client(claims: Mapping[str, Any], client_id: str) -> bool:
    audience = claims.get("aud")
    several = isinstance(audience, list)
    named = client_id in audience if isinstance(audience, list) else audience == client_id
    # A token for several, or one that was handed on, says for whom it was made.
    party = claims.get("azp", None if several and len(audience or []) > 1 else client_id)
    return named and party == client_id


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if now >= expires + SKEW_S:
        raise Unauthenticated("This token has expired. Sign in again.", code="token_expired")
    if max(issued, _time(claims, "nbf") if "nbf" in claims else issued) > now + SKEW_S:
        raise _invalid("it is from the future")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise _invalid(f"its {name} is no time")
    return float(value)


def _same(told: object, expected: str) -> bool:
    return isinstance(told, str) and hmac.compare_digest(told.encode(errors="replace"), expected.encode())


def _document(told: Any, issuer: str) -> Mapping[str, str]:
    """What an issuer says of itself. Raises Unavailable for another's document, or one that lacks what is needed."""
    names = ("issuer", "authorization_endpoint", "jwks_uri")
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in names):
        raise Unavailable(f"{issuer} has no OpenID configuration")
    if told["issuer"] != issuer:
        raise Unavailable(f"{issuer} shows the configuration of another issuer")
    return told


def _usable(told: Any) -> Sequence[Mapping[str, Any]]:
    keys = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(keys, list):
        raise Unavailable("an issuer shows no keys")
    return [
        key
        for key in keys[:MAX_KEYS]
        if isinstance(key, dict) and key.get("kty") in _KEY_TYPES.values() and key.get("use", "sig") == "sig"
    ]


def _imported(told: Mapping[str, Any]) -> Key | None:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    public = {name: told[name] for name in ("kty", "n", "e", "crv", "x", "y") if isinstance(told.get(name), str)}
    try:
        if told["kty"] == "EC":
            return ECKey.import_key(public)
        length = len(public.get("n", "")) * 6
        return RSAKey.import_key(public) if MIN_RSA_BITS <= length <= 4 * MIN_RSA_BITS + 6 else None
    except (JoseError, ValueError, KeyError):
        return None


def _invalid(why: str) -> Unauthenticated:
    return Unauthenticated(f"This token is not accepted: {why}.", code="invalid_token")
