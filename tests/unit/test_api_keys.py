"""API keys: their form, what is asked of the store and when, and how they die."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api_keys import MAX_KEYS, SHOWN_CHARS, ApiKeys, Grant, hash_key, mint
from control_plane.errors import Conflict, InvalidApiKey, NotFound, Stale, Unavailable
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

    async def list(self) -> Sequence[KeyRow]:
        self.reads += 1
        await self.answers.wait()
        return await super().list()


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


async def settle() -> None:
    """Let a read behind the scenes end."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_are_read_once_in_their_cache_time(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    store.reads = 0
    for _ in range(14):
        assert await keys.verify(KEY) == row
        await settle()
        clock.step(1)
    assert store.reads == 2


async def test_an_unknown_key_is_looked_for_ever_more_rarely(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    reads = []
    for number in range(4000):  # 40 s, a hundred unknown keys in each
        with pytest.raises(InvalidApiKey, match="not known here"):
            await keys.verify(mint(number.to_bytes(32)))
        clock.step(0.01)
        reads.append(store.reads)
    assert reads[-1] <= 8
    assert reads[-1] - reads[2000] <= 3  # as many as without a flood: one every ten seconds


async def test_a_new_key_of_another_program_is_found_within_a_second(
    keys: ApiKeys, store: SlowKeys, clock: FakeClock
) -> None:
    other = mint(bytes(32))
    await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    await store.add(replace(store.rows[hash_key(KEY)], key_hash=hash_key(other), name="other"))
    clock.step(1)
    assert (await keys.verify(other)).name == "other"


async def test_a_new_key_is_found_within_the_cache_time_also_in_a_flood(
    keys: ApiKeys, store: SlowKeys, clock: FakeClock
) -> None:
    for number in range(500):
        with pytest.raises(InvalidApiKey):
            await keys.verify(mint(number.to_bytes(32)))
        clock.step(0.1)
    row = KeyRow(hash_key(KEY), "ann@example.com", "k", clock.now, KEY[:SHOWN_CHARS])
    await store.add(row)
    clock.step(10)
    assert await keys.verify(KEY) == row


async def test_after_a_calm_minute_a_new_key_is_found_at_once_again(
    keys: ApiKeys, store: SlowKeys, clock: FakeClock
) -> None:
    for number in range(500):
        with pytest.raises(InvalidApiKey):
            await keys.verify(mint(number.to_bytes(32)))
        clock.step(0.1)
    clock.step(60)
    await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    other = mint(bytes([7] * 32))
    await store.add(replace(store.rows[hash_key(KEY)], key_hash=hash_key(other)))
    clock.step(1)
    await keys.verify(other)


async def test_an_expired_key_looks_like_one_that_never_was(keys: ApiKeys, clock: FakeClock) -> None:
    await keys.create(email="ann@example.com", name="k", grant=Grant(expires_at=clock.now + 60))
    await keys.verify(KEY)
    clock.step(60)
    with pytest.raises(InvalidApiKey) as expired:
        await keys.verify(KEY)
    with pytest.raises(InvalidApiKey) as unknown:
        await keys.verify(mint(bytes(32)))
    assert expired.value.message == unknown.value.message


async def test_one_person_has_so_many_keys_and_no_more(store: SlowKeys, clock: FakeClock) -> None:
    for number in range(MAX_KEYS):
        await store.add(KeyRow(str(number), "ann@example.com", "k", clock.now, "dio-"))
    keys = ApiKeys(store, clock=clock, entropy=lambda n: bytes(range(n)))
    with pytest.raises(Conflict, match="Revoke one"):
        await keys.create(email="ann@example.com", name="k")
    await keys.create(email="bob@example.com", name="k")


async def test_many_requests_with_one_new_key_are_one_read(keys: ApiKeys, store: SlowKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    store.answers.clear()
    asking = [asyncio.create_task(keys.verify(KEY)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # who came first may leave first
    await asyncio.sleep(0)
    store.answers.set()
    assert await asyncio.gather(*asking[1:]) == [row] * 19
    assert store.reads == 2  # one for all of them, and one before, for the number of keys


async def test_a_failing_store_is_told_to_all_and_asked_again(keys: ApiKeys, store: SlowKeys) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    store.broken.fail("list")
    results = await asyncio.gather(keys.verify(KEY), keys.verify(KEY), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert await keys.verify(KEY) == row


async def test_a_known_key_needs_no_store_while_it_is_cached(keys: ApiKeys, store: SlowKeys, clock: FakeClock) -> None:
    _, row = await keys.create(email="ann@example.com", name="k")
    await keys.verify(KEY)
    store.broken.fail("list")
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


def made(number: int, by: KeyRow | None = None, *, email: str = "ann@example.com") -> KeyRow:
    """The key of so many ones, and its row."""
    return KeyRow(hash_key(_key(number)), email, f"{number}", float(number), "dio-", made_by=by.id if by else "")


def _key(number: int) -> str:
    return mint(bytes([number]) * 32)


@pytest.fixture
async def family(store: SlowKeys) -> Sequence[KeyRow]:
    """Of the first the second was made, of the second the third, and of the first the fourth; of none the fifth."""
    first = made(1)
    second = made(2, first)
    rows = [first, second, made(3, second), made(4, first), made(5)]
    for row in rows:
        await store.add(row)
    return rows


async def test_a_key_that_is_revoked_takes_with_it_what_was_made_with_it(
    keys: ApiKeys, store: SlowKeys, family: Sequence[KeyRow]
) -> None:
    gone = await keys.revoke(family[1].id, email="ann@example.com")
    assert [row.name for row in gone] == ["2", "3"]
    assert [row.name for row in await keys.list()] == ["1", "4", "5"]
    assert {row.name for row in await keys.revoke(family[0].id)} == {"1", "4"}
    assert [row.name for row in store.rows.values()] == ["5"]


async def test_whose_maker_is_gone_is_no_key_although_its_own_row_stayed(
    keys: ApiKeys, store: SlowKeys, clock: FakeClock, family: Sequence[KeyRow]
) -> None:
    assert (await keys.verify(_key(3))).name == "3"
    del store.rows[family[0].key_hash]  # as another process may: it had not seen the others yet
    clock.step(10)
    for number in (2, 3, 4):
        with pytest.raises(InvalidApiKey):
            await keys.verify(_key(number))
    assert (await keys.verify(_key(5))).name == "5"
    assert [row.name for row in await keys.list("ann@example.com")] == ["5"]
    assert len(await keys.revoke_all("ann@example.com")) == 4
    assert not store.rows


async def test_what_could_not_be_revoked_as_a_whole_can_be_revoked_again(
    keys: ApiKeys, store: SlowKeys, family: Sequence[KeyRow]
) -> None:
    for failures in range(4):  # one for each of the four rows
        store.broken.fail("revoke")
        with pytest.raises(Unavailable):
            await keys.revoke(family[0].id)
        assert family[0].key_hash in store.rows, failures
    assert len(await keys.revoke(family[0].id)) == 4
    assert [row.name for row in store.rows.values()] == ["5"]


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
