"""API keys: their form, what is asked of the store and when, and how they die."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api_keys import MAX_CACHED, SHOWN_CHARS, ApiKeys, hash_key, mint
from control_plane.errors import InvalidApiKey, NotFound, Stale, Unavailable
from control_plane.ports import KeyRow
from tests.memory import FakeClock, MemoryKeys

KEY = mint(bytes(range(32)))
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class SlowKeys(MemoryKeys):
    """Counts reads, and answers them when told."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def get(self, key_hash: str) -> KeyRow | None:
        self.reads += 1
        await self.answers.wait()
        return await super().get(key_hash)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store() -> SlowKeys:
    return SlowKeys()


@pytest.fixture
async def keys(store: SlowKeys, clock: FakeClock) -> ApiKeys:
    return ApiKeys(store, clock=clock, entropy=lambda n: bytes(range(n)), cache_s=10.0)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_has_the_same_form(entropy: bytes) -> None:
    key = mint(entropy)
    assert len(key) == 53
    assert key.startswith("dio-")
    assert set(key[4:]) <= set(LETTERS)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_different_entropy_is_a_different_key(one: bytes, other: bytes) -> None:
    assert (mint(one) == mint(other)) is (one == other)


@given(place=st.integers(4, len(KEY) - 1), letter=st.sampled_from(LETTERS))
async def test_one_wrong_letter_is_told_without_asking(place: int, letter: str) -> None:
    store = SlowKeys()
    typo = KEY[:place] + letter + KEY[place + 1 :]
    if typo != KEY:
        with pytest.raises(InvalidApiKey, match="typo"):
            await ApiKeys(store, clock=FakeClock(), entropy=bytes).verify(typo)
        assert store.reads == 0


@pytest.mark.parametrize(
    "key", ["", "dio-", "sk-123", KEY + "x", KEY[:-1], f" {KEY}", f"{KEY}\n", KEY.upper(), "é" * 53]
)
async def test_what_is_no_key_is_told_without_asking(key: str, keys: ApiKeys, store: SlowKeys) -> None:
    with pytest.raises(InvalidApiKey, match="not a Diogenes API key"):
        await keys.verify(key)
    assert store.reads == 0


async def test_a_new_key_is_stored_as_its_hash_only(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    key, row = await keys.create(email="ann@example.com", name="laptop")
    assert key == KEY
    assert row == KeyRow(hash_key(KEY), "ann@example.com", "laptop", clock.now, KEY[:SHOWN_CHARS])
    assert KEY not in str(store.rows)


async def test_a_key_is_read_once_in_its_cache_time(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    for _ in range(3):
        assert await keys.verify(KEY) == row
        clock.step(5)
    assert store.reads == 2


async def test_an_unknown_key_is_remembered_as_unknown_for_as_long(
    keys: ApiKeys, store: SlowKeys, clock: FakeClock
) -> None:
    for _ in range(3):
        with pytest.raises(InvalidApiKey, match="not known here"):
            await keys.verify(KEY)
    assert store.reads == 1
    _, row = await keys.create(email="ann@example.com", name="k")
    clock.step(10)
    assert await keys.verify(KEY) == row


async def test_many_requests_with_one_new_key_are_one_read(keys: ApiKeys, store: SlowKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    store.answers.clear()
    asking = [asyncio.create_task(keys.verify(KEY)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # who came first may leave first
    await asyncio.sleep(0)
    store.answers.set()
    assert await asyncio.gather(*asking[1:]) == [row] * 19
    assert store.reads == 1


async def test_a_failing_store_is_told_to_all_and_asked_again(keys: ApiKeys, store: SlowKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    store.broken.fail("get")
    results = await asyncio.gather(keys.verify(KEY), keys.verify(KEY), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert await keys.verify(KEY) == row


async def test_a_known_key_needs_no_store_while_it_is_cached(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    store.broken.fail("get")
    clock.step(9)
    assert await keys.verify(KEY) == row


async def test_a_key_revoked_elsewhere_dies_with_its_cache_time(
    keys: ApiKeys, store: SlowKeys, clock: FakeClock
) -> None:
    await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    store.rows.clear()
    clock.step(9.9)
    await keys.verify(KEY)
    clock.step(0.1)
    with pytest.raises(InvalidApiKey):
        await keys.verify(KEY)


async def test_a_key_revoked_here_dies_at_once(keys: ApiKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    await keys.revoke(row.id, email="ann@example.com")
    with pytest.raises(InvalidApiKey):
        await keys.verify(KEY)


async def test_only_the_owner_revokes(keys: ApiKeys, store: SlowKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    with pytest.raises(NotFound):
        await keys.revoke(row.id, email="bob@example.com")
    store.broken.fail("revoke", Stale(row.id))
    with pytest.raises(NotFound, match="any more"):
        await keys.revoke(row.id, email="ann@example.com")
    store.broken.fail("revoke")
    with pytest.raises(Unavailable):
        await keys.revoke(row.id, email="ann@example.com")
    assert list(store.rows) == [row.key_hash]


async def test_keys_are_listed_oldest_first(keys: ApiKeys, store: SlowKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="new")
    await store.add(replace(row, key_hash="0" * 64, name="old", created_at=row.created_at - 1))
    assert [key.name for key in await keys.list("ann@example.com")] == ["old", "new"]


async def test_the_last_use_is_written_at_most_once_a_minute(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    await keys.create(email="ann@example.com", name="k")
    written = set()
    for _ in range(180):
        await keys.verify(KEY)
        await keys.flush()
        written.add(store.rows[hash_key(KEY)].last_used_at)
        clock.step(1)
    assert len(written) == 3


async def test_a_last_use_that_could_not_be_written_is_written_later(keys: ApiKeys, store: SlowKeys) -> None:
    await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    store.broken.fail("used")
    with pytest.raises(Unavailable):
        await keys.flush()
    await keys.flush()
    assert store.rows[hash_key(KEY)].last_used_at > 0


async def test_the_last_use_of_a_key_that_is_gone_is_forgotten(keys: ApiKeys, store: SlowKeys) -> None:
    await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    store.rows.clear()
    await keys.flush()
    store.broken.fail("used")
    await keys.flush()  # asks nothing: there is nothing left to write


async def test_a_flood_of_unknown_keys_does_not_fill_the_memory(keys: ApiKeys) -> None:
    for number in range(MAX_CACHED + 10):
        with pytest.raises(InvalidApiKey):
            await keys.verify(mint(number.to_bytes(32)))
    assert len(keys._cache) <= MAX_CACHED
