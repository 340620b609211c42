"""Who is calling: an API key, a session's cookie or an ID token, and whether the allowlist still has its person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from control_plane.allowlist import Allowlist, Roster, not_on_allowlist
from control_plane.api_keys import PREFIX, ApiKeys, unknown_key
from control_plane.errors import Forbidden, InvalidApiKey, RequestError
from control_plane.fresh import Fresh
from control_plane.identity import IdTokens
from control_plane.limits import Limits
from control_plane.people import Entrance, Session
from control_plane.ports import KeyRow
from control_plane.sessions import Sessions, session_over
from control_plane.turned_away import TurnedAway

CSRF_HEADER = "X-Diogenes-Csrf"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brings along; empty where it brings nothing."""

    authorization: str = ""
    x_api_key: str = ""
    cookie: str = ""  # the session's
    csrf: str = ""
    origin: str = ""
    changes: bool = False  # the request is no mere look


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was let in."""

    email: str
    owner: bool
    key: KeyRow | None = None  # with which they came
    session: Session | None = None  # in which they came
    provider: str | None = None  # that vouched for them

    @property
    def wait_s(self) -> float | None:
        """As KeyRow has it."""
        return self.key.wait_s if self.key else None

    @property
    def key_id(self) -> str:
        """What the API calls the key; empty without one."""
        return self.key.id if self.key else ""

    def may_ask(self, model: str) -> bool:
        return not (self.key and self.key.models) or model in self.key.models


Guard = Callable[[Principal, str], Awaitable[None]]
"""Asked before every question of somebody to a model; raises RequestError to refuse it, as a spent budget would."""


class Door:
    """Lets requests in, or says why not."""

    def __init__(
        self,
        keys: ApiKeys,
        sessions: Sessions,
        id_tokens: IdTokens,
        allowlist: Allowlist,
        entrance: Fresh[Entrance],
        limits: Limits,
        turned_away: TurnedAway,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._id_tokens = id_tokens
        self._allowlist = allowlist
        self._entrance = entrance
        self._limits = limits
        self.guards: list[Guard] = []
        self._turned_away = turned_away

    async def admit(self, brought: Credentials) -> Principal:
        """Raises InvalidApiKey, Unauthenticated, Forbidden; Unavailable when it cannot be known now."""
        try:
            return await self._admit(brought)
        except RequestError as error:
            self._turned_away.note(error.code)
            raise

    async def allow(self, principal: Principal, model: str, *, again: bool = False) -> None:
        """May they ask this model now? It counts as one request, but for one that we sent to come ``again``.

        Raises Forbidden, RateLimited, what a guard raises.
        """
        if not principal.may_ask(model):
            raise Forbidden(f"This API key may not ask {model}.", code="model_not_allowed", param="model")
        for guard in self.guards:
            await guard(principal, model)
        key = principal.key
        if key and key.requests_per_minute and not again:
            self._limits.count(key.key_hash, per_minute=key.requests_per_minute, whose="This API key")

    async def _admit(self, brought: Credentials) -> Principal:
        scheme, _, token = brought.authorization.partition(" ")
        bearer = scheme.lower() == "bearer"
        token = token.strip() if bearer else brought.x_api_key
        if bearer and token.count(".") == 2 and not token.startswith(PREFIX):
            return await self._by_id_token(token)
        if token:
            return await self._by_key(token)
        if brought.cookie and not bearer:
            return await self._by_cookie(brought)
        raise InvalidApiKey(
            "No API key and no sign-in. Send `Authorization: Bearer dio-…`, or sign in.", code="missing_api_key"
        )

    async def _by_key(self, key: str) -> Principal:
        row = await self._keys.verify(key)
        roster = await self._allowlist.roster()
        if not roster.admits(row.email):
            raise unknown_key()  # as if it had never been: a key tells nothing about its person
        return Principal(row.email, roster.owns(row.email), key=row)

    async def _by_id_token(self, token: str) -> Principal:
        identity = await self._id_tokens.verify(token, (await self._entrance.get()).providers)
        roster = _admitting(await self._allowlist.roster(), identity.email)
        return Principal(identity.email, roster.owns(identity.email), provider=identity.provider)

    async def _by_cookie(self, brought: Credentials) -> Principal:
        if brought.changes:
            await self._check_origin(brought)
        session = await self._sessions.find(brought.cookie)
        if (await self._entrance.get()).provider(session.provider) is None:
            raise session_over()  # nobody trusts any more who vouched for them
        roster = _admitting(await self._allowlist.roster(), session.email)
        return Principal(session.email, roster.owns(session.email), session=session, provider=session.provider)

    async def _check_origin(self, brought: Credentials) -> None:
        """Another site can make a browser send our cookie, but neither our header nor our origin."""
        ours = (await self._entrance.get()).web_url
        if brought.csrf != "1" or brought.origin not in ("", ours):
            raise Forbidden(f"This request came from another site, or without `{CSRF_HEADER}: 1`.", code="csrf_failed")


def _admitting(roster: Roster, email: str) -> Roster:
    if not roster.admits(email):
        raise not_on_allowlist(email)
    return roster
