"""The promises of KeyStore."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import Stale
from control_plane.ports import KeyRow, KeyStore
from tests.contract.under_test import Stores

AT = 1_795_000_000.5
KEY = KeyRow("ab" * 32, "ann@example.com", "laptop", AT, "sk-dio-ab")


@pytest.fixture
async def keys(stores: Stores) -> KeyStore:
    await stores.keys.add(KEY)
    return stores.keys


async def found(keys: KeyStore, key_hash: str) -> KeyRow | None:
    return next((row for row in await keys.list() if row.key_hash == key_hash), None)


async def test_everybodys_keys_are_listed_oldest_first(keys: KeyStore) -> None:
    older = replace(KEY, key_hash="ff" * 32, created_at=AT - 5)
    await keys.add(older)
    bobs = replace(KEY, key_hash="cd" * 32, email="bob@example.com")
    await keys.add(bobs)
    assert await keys.list() == [older, KEY, bobs]


async def test_what_a_key_may_do_is_kept(keys: KeyStore) -> None:
    limited = replace(
        KEY,
        key_hash="ef" * 32,
        wait_s=5,
        expires_at=AT + 60,
        models=("org/model", "org/other"),
        requests_per_minute=7,
        monthly_budget_usd=2.5,
        made_by=KEY.id,
    )
    await keys.add(limited)
    assert await found(keys, limited.key_hash) == limited


async def test_a_hash_is_added_once(keys: KeyStore) -> None:
    with pytest.raises(Stale):
        await keys.add(replace(KEY, email="bob@example.com"))
    assert await found(keys, KEY.key_hash) == KEY


async def test_a_revoked_key_is_gone(keys: KeyStore) -> None:
    await keys.revoke(KEY.key_hash, KEY.email)
    assert await found(keys, KEY.key_hash) is None


async def test_nobody_revokes_the_key_of_another(keys: KeyStore) -> None:
    with pytest.raises(Stale):
        await keys.revoke(KEY.key_hash, "bob@example.com")
    assert await found(keys, KEY.key_hash) == KEY


async def test_an_unknown_key_cannot_be_revoked(keys: KeyStore) -> None:
    with pytest.raises(Stale):
        await keys.revoke("cd" * 32, KEY.email)


async def test_the_last_use_is_the_latest_however_late_it_is_told(keys: KeyStore) -> None:
    await asyncio.gather(*(keys.used(KEY.key_hash, AT + n) for n in (3, 9, 1, 9, 4)))
    assert await found(keys, KEY.key_hash) == replace(KEY, last_used_at=AT + 9)


async def test_using_a_revoked_key_does_not_bring_it_back(keys: KeyStore) -> None:
    await keys.revoke(KEY.key_hash, KEY.email)
    with pytest.raises(Stale):
        await keys.used(KEY.key_hash, AT)
    assert await found(keys, KEY.key_hash) is None
