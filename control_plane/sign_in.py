"""Sign-in by browser: away to a provider and back, once, into a session.

What a sign-in needs to remember stands in a sealed cookie of the browser that began it: nothing is stored for people
who have not proved who they are, and a state that comes back to another browser finds no cookie.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlencode, urlsplit

from control_plane.allowlist import Allowlist, not_on_allowlist
from control_plane.errors import InvalidRequest, RequestError, Stale, Unauthenticated
from control_plane.fresh import Fresh
from control_plane.github import GitHub
from control_plane.identity import IdTokens
from control_plane.limits import Limits
from control_plane.people import Entrance, Flow, PeopleAdapters, Provider, Session
from control_plane.ports import Clock
from control_plane.schema import CALLBACK_PATH
from control_plane.seal import BrokenSeal, Seal, digest
from control_plane.sessions import Sessions
from control_plane.turned_away import TurnedAway

BEGUN_S = 600.0  # to come back in
MAX_RETURN_CHARS = 512

_PURPOSE = "sign-in"
_STATE = re.compile(r"[A-Za-z0-9_-]{43}")
_PATH = re.compile(r"/([!-.0-\[\]-~][!-\[\]-~]*)?")  # printable ASCII without \, and no second slash


@dataclass(frozen=True)
class Begun:
    """A sign-in under way."""

    authorize_url: str  # where the browser goes
    state: str
    cookie: str  # to be brought back with the state


@dataclass(frozen=True)
class Answer:
    """What the browser came back with."""

    state: str
    id_token: str = ""
    code: str = ""


@dataclass(frozen=True)
class _Intent:
    """What the cookie holds."""

    provider: str
    state: str
    nonce: str
    verifier: str
    return_to: str
    until: float


@dataclass(frozen=True)
class Finished:
    """Somebody is signed in."""

    cookie: str
    session: Session
    return_to: str


class SignIn:
    """Begin and finish."""

    def __init__(
        self,
        outside: PeopleAdapters,
        entrance: Fresh[Entrance],
        allowlist: Allowlist,
        sessions: Sessions,
        id_tokens: IdTokens,
        *,
        clock: Clock,
        entropy: Callable[[int], bytes],
        turned_away: TurnedAway,
    ) -> None:
        self._store = outside.sessions
        self._entrance = entrance
        self._allowlist = allowlist
        self._sessions = sessions
        self._id_tokens = id_tokens
        self._github = GitHub(outside.web, Limits(clock=clock))
        self._clock = clock
        self._entropy = entropy
        self._turned_away = turned_away

    async def begin(self, provider_id: str, *, return_to: str) -> Begun:
        """Raises InvalidRequest for a provider that is not configured or a way back that is not ours; Unavailable."""
        entrance = await self._entrance.get()
        provider = entrance.provider(provider_id)
        if provider is None:
            raise InvalidRequest("Nobody can sign in that way here.", param="provider", code="unknown_provider")
        until = self._clock() + BEGUN_S
        intent = _Intent(provider.id, self._token(), self._token(), self._token(), checked_path(return_to), until)
        return Begun(
            await self._authorize_url(provider, intent, entrance.web_url + CALLBACK_PATH),
            intent.state,
            Seal(entrance.secret).close(_PURPOSE, json.dumps(asdict(intent))),
        )

    async def finish(self, answer: Answer, *, cookie: str) -> Finished:
        """Raises Unauthenticated, Forbidden (not_on_allowlist), Unavailable. A state is good for one session."""
        try:
            return await self._finish(answer, cookie)
        except RequestError as error:
            self._turned_away.note(error.code)
            raise

    async def _finish(self, answer: Answer, cookie: str) -> Finished:
        entrance = await self._entrance.get()
        intent = self._intent(cookie, answer.state, Seal(entrance.secret))
        provider = entrance.provider(intent.provider)
        if provider is None:
            raise _not_begun()
        email = await self._admitted(await self._emails(provider, intent, answer, entrance), provider)
        try:
            await self._store.use_once(digest(f"{_PURPOSE} {intent.state}"), until=intent.until + BEGUN_S)
        except Stale:
            raise Unauthenticated("This sign-in was used already. Sign in again.", code="invalid_state") from None
        made, session = await self._sessions.open(email, provider=provider.id)
        return Finished(made, session, intent.return_to)

    async def web_url(self) -> str:
        """The origin of our own pages. Raises Unavailable."""
        return (await self._entrance.get()).web_url

    async def _authorize_url(self, provider: Provider, intent: _Intent, redirect_uri: str) -> str:
        if provider.flow is Flow.GITHUB:
            hashed = hashlib.sha256(intent.verifier.encode()).digest()
            return self._github.authorize_url(
                provider, redirect_uri=redirect_uri, state=intent.state, challenge=_text(hashed)
            )
        told = {
            "client_id": provider.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "id_token",
            "scope": "openid email",
            "state": intent.state,
            "nonce": intent.nonce,
        }
        url = await self._id_tokens.issuer(provider.issuer).authorize_url()
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(told)}"

    def _intent(self, cookie: str, state: str, seal: Seal) -> _Intent:
        try:
            intent = _Intent(**json.loads(seal.open(_PURPOSE, cookie)))
        except BrokenSeal:
            raise _not_begun() from None
        if not hmac.compare_digest(intent.state.encode(), state.encode(errors="replace")):
            raise _not_begun()
        if self._clock() >= intent.until:
            raise Unauthenticated("The sign-in took too long. Sign in again.", code="state_expired")
        return intent

    async def _emails(self, provider: Provider, intent: _Intent, answer: Answer, entrance: Entrance) -> Sequence[str]:
        if provider.flow is Flow.GITHUB:
            return await self._github.emails(
                provider,
                code=answer.code,
                verifier=intent.verifier,
                redirect_uri=entrance.web_url + CALLBACK_PATH,
            )
        return [(await self._id_tokens.verify(answer.id_token, [provider], nonce=intent.nonce)).email]

    async def _admitted(self, emails: Sequence[str], provider: Provider) -> str:
        roster = await self._allowlist.roster()
        for email in emails:
            if roster.admits(email):
                return email
        raise not_on_allowlist(emails[0])

    def _token(self) -> str:
        return _text(self._entropy(32))


def checked_path(path: str) -> str:
    """A path of the web app, to go back to. Raises InvalidRequest for what leads elsewhere."""
    if len(path) > MAX_RETURN_CHARS or not _PATH.fullmatch(path):
        raise InvalidRequest("`return_to` must be a path of the web app, such as /models.", param="return_to")
    return path


def state_of(text: str) -> str:
    """A state of the form that ``begin`` makes. Raises Unauthenticated."""
    if not _STATE.fullmatch(text):
        raise _not_begun()
    return text


def _not_begun() -> Unauthenticated:
    return Unauthenticated("No sign-in was begun in this browser, or another one. Sign in again.", code="invalid_state")


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
