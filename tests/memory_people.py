"""The outside world of people in memory: parameters, sessions, an owner's decisions, and sign-in providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from control_plane.errors import Stale, Unavailable
from control_plane.people import Entrance, Override, PeopleAdapters, Provider, Session
from tests.memory import Fallible

SECRET = "s" * 64
WEB_URL = "https://llm.example.org"


@dataclass
class MemoryEntrance(Fallible):
    """What `pulumi up` configured; a test changes ``configured`` as `pulumi up` would."""

    configured: Entrance = field(
        default_factory=lambda: Entrance(["ann@example.com", "*@example.com"], [], SECRET, WEB_URL)
    )
    reads: int = 0

    async def read(self) -> Entrance:
        self.reads += 1
        return self.configured

    def allow(self, *entries: str) -> None:
        self.configured = replace(self.configured, allowed=entries)

    def trust(self, *providers: Provider) -> None:
        self.configured = replace(self.configured, providers=providers)


@dataclass
class MemorySessions(Fallible):
    rows: dict[str, Session] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    reads: int = 0

    async def get(self, id_hash: str) -> Session | None:
        self.reads += 1
        return self.rows.get(id_hash)

    async def add(self, session: Session) -> None:
        self.rows[session.id_hash] = session

    async def extend(self, id_hash: str, until: float) -> None:
        if id_hash not in self.rows:
            raise Stale(id_hash)
        self.rows[id_hash] = replace(self.rows[id_hash], expires_at=until)

    async def end(self, id_hash: str) -> None:
        self.rows.pop(id_hash, None)

    async def end_all(self, email: str) -> int:
        theirs = [id_hash for id_hash, session in self.rows.items() if session.email == email]
        for id_hash in theirs:
            del self.rows[id_hash]
        return len(theirs)

    async def emails(self) -> set[str]:
        return {session.email for session in self.rows.values()}

    async def use_once(self, token_hash: str, *, until: float) -> None:
        if token_hash in self.used:
            raise Stale(token_hash)
        self.used[token_hash] = until


@dataclass
class MemoryOverrides(Fallible):
    rows: dict[str, Override] = field(default_factory=dict)
    reads: int = 0

    async def list(self) -> list[Override]:
        self.reads += 1
        return [self.rows[entry] for entry in sorted(self.rows)]

    async def put(self, override: Override) -> None:
        self.rows[override.entry] = override


@dataclass
class MemoryWeb(Fallible):
    """Documents by URL; an exception there is raised. ``asked`` are the URLs, in order."""

    documents: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    posted: list[Mapping[str, str]] = field(default_factory=list)

    async def get(self, url: str, *, bearer: str = "") -> Any:
        self.asked.append(url)
        return self._answer(f"{url} {bearer}".strip())

    async def post(self, url: str, form: Mapping[str, str]) -> Any:
        self.asked.append(url)
        self.posted.append(form)
        return self._answer(url)

    def _answer(self, url: str) -> Any:
        if url not in self.documents:
            raise Unavailable(f"{url} did not answer")
        return self.documents[url]


@dataclass
class MemoryPeople:
    """All of it."""

    entrance: MemoryEntrance = field(default_factory=MemoryEntrance)
    overrides: MemoryOverrides = field(default_factory=MemoryOverrides)
    sessions: MemorySessions = field(default_factory=MemorySessions)
    web: MemoryWeb = field(default_factory=MemoryWeb)

    @property
    def adapters(self) -> PeopleAdapters:
        return PeopleAdapters(self.entrance.read, self.overrides, self.sessions, self.web)
