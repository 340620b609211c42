"""People, as the tables and parameters know them: who may come in, and who is in. The ports of that, on one screen.

All times are Unix seconds. Stores raise ``errors.Stale`` and ``errors.Unavailable`` as those of ``ports`` do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class Flow(StrEnum):
    """How a browser comes back from a provider."""

    OIDC = "oidc"  # with an ID token in the fragment: no secret, and nobody asks the provider anything
    GITHUB = "github"  # with a code, which is exchanged for the verified addresses; GitHub makes no ID tokens


@dataclass(frozen=True)
class Provider:
    """One sign-in. URLs are of the GitHub flow only; an OIDC issuer tells its own."""

    id: str  # in the API: "google"
    name: str  # for people: "Google"
    flow: Flow
    client_id: str
    issuer: str = ""
    authorize_url: str = ""
    token_url: str = ""
    emails_url: str = ""
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Entrance:
    """What `pulumi up` configured of who may come in, and by which way."""

    allowed: Sequence[str]  # entries of the allowlist, folded; the first is the owner
    providers: Sequence[Provider]
    secret: str = field(repr=False)  # seals cookies
    web_url: str  # where browsers come from and go back to; without a slash at the end

    def provider(self, id_: str) -> Provider | None:
        return next((provider for provider in self.providers if provider.id == id_), None)


@dataclass(frozen=True)
class Override:
    """What an owner decided in the API about one entry of the allowlist; stronger than the configuration."""

    entry: str  # folded
    allowed: bool
    owner: bool
    by: str
    at: float


@dataclass(frozen=True)
class Session:
    """One browser that is signed in. Its cookie is never stored."""

    id_hash: str  # SHA-256 of the cookie, hex
    email: str
    provider: str  # its id
    created_at: float
    expires_at: float  # moved on by use
    absolute_expires_at: float


@dataclass(frozen=True)
class Identity:
    """Who a provider says that somebody is."""

    email: str  # folded, and verified by the provider
    provider: str  # its id


EntranceSource = Callable[[], Awaitable[Entrance]]
"""As configured now. Raises Unavailable."""


class SessionStore(Protocol):
    async def get(self, id_hash: str) -> Session | None: ...

    async def add(self, session: Session) -> None: ...

    async def extend(self, id_hash: str, until: float) -> None:
        """Raises Stale when it was ended."""

    async def end(self, id_hash: str) -> None:
        """Doing it twice is doing it once."""

    async def end_all(self, email: str) -> int:
        """Every session of this person; how many there were."""

    async def emails(self) -> Collection[str]:
        """Of whom there are sessions."""

    async def use_once(self, token_hash: str, *, until: float) -> None:
        """Remember until then that it was used. Raises Stale when it was before."""


class OverrideStore(Protocol):
    async def list(self) -> Sequence[Override]: ...

    async def put(self, override: Override) -> None:
        """In the place of what was decided about that entry before."""


class Web(Protocol):
    """Bounded calls to providers; no redirect is followed. Raises Unavailable."""

    async def get(self, url: str, *, bearer: str = "") -> Any:
        """A document of JSON."""

    async def post(self, url: str, form: Mapping[str, str]) -> Any:
        """A form; the answer is a document of JSON."""


@dataclass(frozen=True)
class PeopleAdapters:
    """The outside world, as far as it is about people."""

    entrance: EntranceSource
    overrides: OverrideStore
    sessions: SessionStore
    web: Web
