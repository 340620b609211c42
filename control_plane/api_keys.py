"""API keys: minted once, stored only as a hash, checked on every request.

A key is ``dio-`` + 43 letters and digits (256 random bits) + 6 letters and digits of checksum, so that a typo is told
from a key that is unknown or revoked without asking anybody. Two programs may check keys at the same time; each
caches what it found for ``cache_s``, so a revoked key dies everywhere within that time.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from control_plane.errors import InvalidApiKey, NotFound, Stale
from control_plane.ports import Clock, KeyRow, KeyStore

PREFIX = "dio-"
SHOWN_CHARS = len(PREFIX) + 4  # of a key, for display
MAX_CACHED = 10_000
USED_EVERY_S = 60.0  # a key's last use is written at most this often

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_CHARS = 43
_CHECK_CHARS = 6
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_BODY_CHARS + _CHECK_CHARS}}}")


@dataclass(frozen=True)
class _Found:
    row: KeyRow | None  # None: no such key
    until: float


class ApiKeys:
    """Mint, verify, list, revoke."""

    def __init__(
        self, store: KeyStore, *, clock: Clock, entropy: Callable[[int], bytes], cache_s: float = 10.0
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._cache_s = cache_s
        self._cache: dict[str, _Found] = {}
        self._asking: dict[str, asyncio.Future[KeyRow | None]] = {}
        self._used: dict[str, float] = {}
        self._written: dict[str, float] = {}

    async def create(self, *, email: str, name: str, wait_s: float | None = None) -> tuple[str, KeyRow]:
        """A new key, in clear for the only time, and its row."""
        key = mint(self._entropy(32))
        row = KeyRow(
            key_hash=hash_key(key),
            email=email,
            name=name,
            created_at=self._clock(),
            prefix=key[:SHOWN_CHARS],
            wait_s=wait_s,
        )
        await self._store.add(row)
        return key, row

    async def verify(self, key: str) -> KeyRow:
        """Whose key it is. Raises InvalidApiKey; Unavailable when that cannot be known now."""
        key_hash = hash_key(key)
        found = self._cache.get(key_hash)
        if found and self._clock() < found.until:
            row = found.row
        else:
            _check_form(key)
            row = await self._ask(key_hash)
        if row is None:
            raise InvalidApiKey(
                "This API key is not known here. Create a new one, or check which deployment it is for."
            )
        self._used[key_hash] = self._clock()
        return row

    async def list(self, email: str) -> Sequence[KeyRow]:
        """The owner's keys, oldest first."""
        return sorted(await self._store.list(email), key=lambda row: row.created_at)

    async def revoke(self, key_id: str, *, email: str) -> None:
        """Raises NotFound when the owner has no such key."""
        row = next((row for row in await self._store.list(email) if row.id == key_id), None)
        if row is None:
            raise NotFound(f"You have no API key {key_id}.")
        try:
            await self._store.revoke(row.key_hash, email)
        except Stale as error:
            raise NotFound(f"You have no API key {key_id} any more.") from error
        self._cache.pop(row.key_hash, None)

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

    async def _ask(self, key_hash: str) -> KeyRow | None:
        """One read however many requests bring the same key at the same moment."""
        asking = self._asking.get(key_hash)
        if asking is None:
            asking = asyncio.ensure_future(self._store.get(key_hash))
            self._asking[key_hash] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key_hash, None))
        row = await asyncio.shield(asking)
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()  # a flood of unknown keys; the real ones are read again
        self._cache[key_hash] = _Found(row, self._clock() + self._cache_s)
        return row


def mint(entropy: bytes) -> str:
    """The key made of 32 random bytes."""
    body = _base62(int.from_bytes(entropy), _BODY_CHARS)
    return PREFIX + body + _checksum(body)


def hash_key(key: str) -> str:
    """SHA-256, hex: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


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
