"""Web sessions: a random cookie, kept as its hash, that lives while it is used and can be taken back.

The cookie is sealed, so one that was not made here costs no look-up. Found ones are cached for ``CACHE_S``; a session
that was ended elsewhere dies within that time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection
from dataclasses import replace

from control_plane.errors import Stale, Unauthenticated
from control_plane.fresh import Fresh
from control_plane.people import Entrance, Session, SessionStore
from control_plane.ports import Clock
from control_plane.seal import BrokenSeal, Seal, digest

SLIDING_S = 12 * 3600.0
ABSOLUTE_S = 30 * 86400.0
EXTEND_AFTER_S = 600.0  # a session's end is moved on at most this often
CACHE_S = 10.0
MAX_CACHED = 1000

_PURPOSE = "session"


class Sessions:
    """Open, find, end."""

    def __init__(
        self, store: SessionStore, entrance: Fresh[Entrance], *, clock: Clock, entropy: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._entrance = entrance
        self._clock = clock
        self._entropy = entropy
        self._cache: dict[str, tuple[Session, float]] = {}  # and until when it may be believed

    async def open(self, email: str, *, provider: str) -> tuple[str, Session]:
        """The cookie, for the only time, and the session. Raises Unavailable."""
        token = base64.urlsafe_b64encode(self._entropy(32)).decode().rstrip("=")
        now = self._clock()
        session = Session(digest(token), email, provider, now, now + SLIDING_S, now + ABSOLUTE_S)
        await self._store.add(session)
        return (await self._seal()).close(_PURPOSE, token), session

    async def find(self, cookie: str) -> Session:
        """Whose cookie it is; being found is being used. Raises Unauthenticated, Unavailable."""
        id_hash = await self._id_hash(cookie)
        session = self._cached(id_hash) or await self._read(id_hash)
        return await self._used(session)

    async def end(self, session: Session) -> None:
        """Sign this browser out."""
        await self._store.end(session.id_hash)
        self._cache.pop(session.id_hash, None)

    async def end_all(self, email: str) -> int:
        """Sign out everywhere; how many sessions there were."""
        ended = await self._store.end_all(email)
        self._cache = {key: held for key, held in self._cache.items() if held[0].email != email}
        return ended

    async def emails(self) -> Collection[str]:
        """Of whom there are sessions. Raises Unavailable."""
        return await self._store.emails()

    async def _id_hash(self, cookie: str) -> str:
        try:
            return digest((await self._seal()).open(_PURPOSE, cookie))
        except BrokenSeal:
            raise session_over() from None

    async def _seal(self) -> Seal:
        return Seal((await self._entrance.get()).secret)

    def _cached(self, id_hash: str) -> Session | None:
        session, until = self._cache.get(id_hash, (None, 0.0))
        return session if session and self._clock() < min(until, session.expires_at) else None

    async def _read(self, id_hash: str) -> Session:
        session = await self._store.get(id_hash)
        if session is None or session.expires_at <= self._clock():
            raise session_over()
        self._keep(session)
        return session

    async def _used(self, session: Session) -> Session:
        now = self._clock()
        until = min(now + SLIDING_S, session.absolute_expires_at)
        if until - session.expires_at < EXTEND_AFTER_S:
            return session
        try:
            await self._store.extend(session.id_hash, until)
        except Stale:
            self._cache.pop(session.id_hash, None)
            raise session_over() from None
        return self._keep(replace(session, expires_at=until))

    def _keep(self, session: Session) -> Session:
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        self._cache[session.id_hash] = session, self._clock() + CACHE_S
        return session


def session_over() -> Unauthenticated:
    return Unauthenticated("You are not signed in, or not any more. Sign in again.", code="session_expired")
