"""API keys: minted once, stored only as a hash, checked on every request.

A key is ``dio-`` + 43 letters and digits (256 random bits) + 6 letters and digits of checksum, so that a typo is told
from a key that is unknown or revoked without asking anybody.

A deployment has few keys, so all of them are read at once, at most every ``cache_s``: a key that was revoked anywhere
dies within that time, and however many unknown keys are tried, nobody reads a table for each. A key that is not among
those read may be new: it is looked for again, the more rarely the oftener that was in vain.

A key may make others, and none of them outlives it: whoever revokes a key that leaked need not look for what was made
with it. So a key whose maker is gone is none, whether or not its own row went as well.
"""

from __future__ import annotations

import contextlib
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from control_plane.errors import Conflict, InvalidApiKey, NotFound, Stale
from control_plane.fresh import Fresh
from control_plane.ports import Clock, KeyRow, KeyStore
from control_plane.seal import digest

PREFIX = "dio-"
SHOWN_CHARS = len(PREFIX) + 4  # of a key, for display
MAX_KEYS = 100  # of one person
USED_EVERY_S = 60.0  # a key's last use is written at most this often
NEW_KEY_S = 1.0  # after so long a key that was not found is looked for again; doubled each time that is in vain
CALM_S = 60.0  # without an unknown key, after which that begins anew

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_CHARS = 43
_CHECK_CHARS = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_BODY_CHARS + _CHECK_CHARS}}}")


@dataclass(frozen=True)
class Grant:
    """What a key may do, where it is not everything that its owner may."""

    wait_s: float | None = None
    expires_at: float | None = None
    models: Sequence[str] = ()
    requests_per_minute: int | None = None
    monthly_budget_usd: float | None = None


class ApiKeys:
    """Mint, verify, list, revoke."""

    def __init__(
        self, store: KeyStore, *, clock: Clock, entropy: Callable[[int], bytes], cache_s: float = 10.0
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._cache_s = cache_s
        self._roll = Fresh(self._read, clock=clock, limit_s=cache_s, renew_s=0.7 * cache_s)
        self._new_key_s = NEW_KEY_S
        self._missed_at = -math.inf
        self._used: dict[str, float] = {}
        self._written: dict[str, float] = {}

    async def create(
        self, *, email: str, name: str, grant: Grant | None = None, made_by: str = ""
    ) -> tuple[str, KeyRow]:
        """A new key, in clear for the only time, and its row. Raises Conflict for one too many, Unavailable.

        ``made_by``: the id of the key that asks for it, if one does.
        """
        if len(await self.list(email)) >= MAX_KEYS:
            raise Conflict(f"You have {MAX_KEYS} API keys. Revoke one first.", code="too_many_keys")
        key = mint(self._entropy(32))
        grant = grant or Grant()
        row = KeyRow(
            key_hash=hash_key(key),
            email=email,
            name=name,
            created_at=self._clock(),
            prefix=key[:SHOWN_CHARS],
            wait_s=grant.wait_s,
            expires_at=grant.expires_at,
            models=tuple(grant.models),
            requests_per_minute=grant.requests_per_minute,
            monthly_budget_usd=grant.monthly_budget_usd,
            made_by=made_by,
        )
        await self._store.add(row)
        self._roll.forget()
        return key, row

    async def verify(self, key: str) -> KeyRow:
        """Whose key it is. Raises InvalidApiKey; Unavailable when that cannot be known now."""
        _check_form(key)
        row = await self._find(hash_key(key))
        if row is None or (row.expires_at is not None and row.expires_at <= self._clock()):
            raise unknown_key()
        self._used[row.key_hash] = self._clock()
        return row

    async def list(self, email: str | None = None) -> Sequence[KeyRow]:
        """The owner's keys, or everybody's, oldest first."""
        return [row for row in living(await self._store.list()) if email in (None, row.email)]

    async def revoke(self, key_id: str, *, email: str | None = None) -> Sequence[KeyRow]:
        """The keys that are gone now: this one, and what was made with it.

        Raises NotFound when the owner, or nobody, has such a key; Unavailable, and then it may be done again.
        """
        rows = await self.list()
        row = next((row for row in rows if row.id == key_id and email in (None, row.email)), None)
        if row is None:
            raise NotFound(f"There is no API key {key_id}.")
        left = {row.id for row in living(other for other in rows if other is not row)}
        made = [other for other in rows if other is not row and other.id not in left]
        await self._revoke(made)  # the key itself goes last: while it is there, all of this can be done again
        try:
            await self._store.revoke(row.key_hash, row.email)
        except Stale as error:
            raise NotFound(f"There is no API key {key_id} any more.") from error
        self._roll.forget()
        return [row, *made]

    async def revoke_all(self, email: str) -> Sequence[KeyRow]:
        """Every key of this person; those that are gone now. Raises Unavailable."""
        rows = [row for row in await self._store.list() if row.email == email]
        await self._revoke(rows)
        self._roll.forget()
        return rows

    async def flush(self) -> None:
        """Write when keys were last used; each at most once a minute. What fails is tried again next time."""
        due = {h: at for h, at in self._used.items() if at >= self._written.get(h, 0.0) + USED_EVERY_S}
        for key_hash, at in due.items():
            try:
                await self._store.used(key_hash, at)
            except Stale:  # revoked meanwhile
                self._used.pop(key_hash, None)
            else:
                self._written[key_hash] = at
                if self._used.get(key_hash) == at:
                    del self._used[key_hash]

    async def _revoke(self, rows: Iterable[KeyRow]) -> None:
        for row in rows:
            with contextlib.suppress(Stale):  # revoked meanwhile
                await self._store.revoke(row.key_hash, row.email)

    async def _find(self, key_hash: str) -> KeyRow | None:
        roll = await self._roll.get()
        if key_hash in roll:
            return roll[key_hash]
        now = self._clock()
        if now - self._missed_at >= CALM_S:
            self._new_key_s = NEW_KEY_S
        self._missed_at = now
        newer = await self._roll.get(max_age_s=self._new_key_s)
        if newer is not roll:
            self._new_key_s = NEW_KEY_S if key_hash in newer else min(2 * self._new_key_s, self._cache_s)
        return newer.get(key_hash)

    async def _read(self) -> Mapping[str, KeyRow]:
        return {row.key_hash: row for row in living(await self._store.list())}


def mint(entropy: bytes) -> str:
    """The key made of 32 random bytes."""
    body = _base62(int.from_bytes(entropy), _BODY_CHARS)
    return PREFIX + body + _checksum(body)


def living(rows: Iterable[KeyRow]) -> Sequence[KeyRow]:
    """Without those whose maker is not there, or does not live itself."""
    found = {row.id: row for row in rows}

    def lives(row: KeyRow) -> bool:
        return not row.made_by or (row.made_by in found and lives(found[row.made_by]))

    return [row for row in found.values() if lives(row)]


def hash_key(key: str) -> str:
    """SHA-256, hex: 256 random bits need no salt and no slow hash."""
    return digest(key)


def unknown_key() -> InvalidApiKey:
    """The same for a key that never was, was revoked, has expired, or whose person may not come in any more."""
    return InvalidApiKey("This API key is not known here. Create a new one, or check which deployment it is for.")


def _check_form(key: str) -> None:
    """Raises InvalidApiKey for what cannot be a key: nobody needs to be asked about it."""
    body, check = key[len(PREFIX) : -_CHECK_CHARS], key[-_CHECK_CHARS:]
    if not _FORM.fullmatch(key) or _checksum(body) != check:
        raise InvalidApiKey(
            f"This is not a Diogenes API key. It starts with {PREFIX}, and a typo shows in its last "
            f"{_CHECK_CHARS} characters: copy it again, or create a new one."
        )


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = ""
    while len(digits) < width:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
