"""The allowlist: what `pulumi config` says, and what an owner changed since. The only wall around what costs money.

The most specific entry wins: a decision about one address, then the configured address, then a decision about its
domain, then the configured domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.addresses import InvalidAddress, domain_entry, fold_entry
from control_plane.errors import Conflict, Forbidden, InvalidRequest
from control_plane.fresh import Fresh
from control_plane.people import Entrance, Override, OverrideStore
from control_plane.ports import Clock

EFFECTIVE_S = 60.0
RENEW_S = 20.0


@dataclass(frozen=True)
class Entry:
    """One line of the allowlist as it stands."""

    email: str  # or *@domain
    source: str  # "pulumi" or "owner"
    allowed: bool
    owner: bool


class Roster:
    """The allowlist at one moment; pure."""

    def __init__(self, configured: Sequence[str], overrides: Sequence[Override]) -> None:
        self._first = configured[0] if configured else ""
        self._configured = frozenset(configured)
        self._order = tuple(configured)
        self._overrides = {override.entry: override for override in overrides}

    def admits(self, email: str) -> bool:
        """Of a folded address."""
        for entry in (email, domain_entry(email)):
            if entry == self._first:
                return True  # whatever was decided: else nobody could let the owner in again
            if entry in self._overrides:
                return self._overrides[entry].allowed
            if entry in self._configured:
                return True
        return False

    def owns(self, email: str) -> bool:
        """The first of the configuration, and whom an owner made one."""
        override = self._overrides.get(email)
        return email == self._first or bool(override and override.allowed and override.owner)

    def entries(self) -> Sequence[Entry]:
        """Configured ones first, in their order. Whom nothing would admit but for a decision against is left out."""
        added = sorted(set(self._overrides) - self._configured)
        return [
            *(Entry(entry, "pulumi", self.admits(entry), self.owns(entry)) for entry in self._order),
            *(
                Entry(entry, "owner", self._overrides[entry].allowed, self.owns(entry))
                for entry in added
                if self._overrides[entry].allowed or self._covered(entry)
            ),
        ]

    def _covered(self, entry: str) -> bool:
        domain = domain_entry(entry)
        return domain != entry and (domain in self._configured or domain in self._overrides)


class Allowlist:
    """The roster, never older than a minute, and an owner's changes to it."""

    def __init__(self, entrance: Fresh[Entrance], store: OverrideStore, *, clock: Clock) -> None:
        self._entrance = entrance
        self._store = store
        self._clock = clock
        self._overrides = Fresh(store.list, clock=clock, limit_s=EFFECTIVE_S, renew_s=RENEW_S)
        self._made: tuple[Entrance, Sequence[Override], Roster] | None = None

    async def roster(self) -> Roster:
        """Raises Unavailable when it cannot be known."""
        entrance, overrides = await self._entrance.get(), await self._overrides.get()
        if self._made is None or self._made[0] is not entrance or self._made[1] is not overrides:
            self._made = entrance, overrides, Roster(entrance.allowed, overrides)
        return self._made[2]

    async def permit(self, email: str, *, by: str, owner: bool | None = None) -> Override:
        """Let somebody in, or everybody of ``*@domain``. Raises InvalidRequest, Unavailable.

        Without ``owner``, who was made one stays one.
        """
        entry = folded(email)
        if owner is None:
            owner = any(known.owner for known in await self._store.list() if known.entry == entry and known.allowed)
        return await self._decide(entry, by=by, allowed=True, owner=owner)

    async def forbid(self, email: str, *, by: str) -> str:
        """Keep out, whoever let them in; the folded entry. Raises as ``permit``, and Conflict for the owner."""
        return (await self._decide(folded(email), by=by, allowed=False, owner=False)).entry

    async def _decide(self, entry: str, *, by: str, allowed: bool, owner: bool) -> Override:
        if owner and entry.startswith("*"):
            raise InvalidRequest("A whole domain cannot be an owner.", param="owner")
        if not allowed and entry in (await self._entrance.get()).allowed[:1]:
            raise Conflict(
                f"{entry} is the owner of this deployment, the first of `allowedEmails`, and stays.", code="owner_stays"
            )
        decided = Override(entry, allowed, owner, by, self._clock())
        await self._store.put(decided)
        self._overrides.forget()
        return decided


def folded(email: str) -> str:
    """The entry as it is kept. Raises InvalidRequest."""
    try:
        return fold_entry(email)
    except InvalidAddress:
        raise InvalidRequest("This is no email address and no *@domain.", param="email") from None


def not_on_allowlist(email: str) -> Forbidden:
    return Forbidden(
        f"{email} is not on the allowlist of this deployment. Its owner can add it.",
        code="not_on_allowlist",
        details={"email": email},
    )
