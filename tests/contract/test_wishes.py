"""The promises of WishStore: a wake is never lost, a hold never shortened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import Stale
from control_plane.ports import Wish, WishStore
from tests.contract.under_test import Stores

AT = 1_795_000_000.25
WISH = Wish("small", desired=1, hold_until=AT + 120, by="ann@example.com", asked_at=AT)


@pytest.fixture
def wishes(stores: Stores) -> WishStore:
    return stores.wishes


async def only(wishes: WishStore) -> Wish:
    (wish,) = await wishes.list()
    return wish


async def test_a_wish_reads_back_as_it_was_asked(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    assert await only(wishes) == replace(WISH, version=1)


async def test_wishes_for_two_models_stand_beside_each_other(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    await wishes.ask(replace(WISH, model="org/Large-70B"))
    assert {wish.model for wish in await wishes.list()} == {"small", "org/Large-70B"}


async def test_a_later_hold_replaces_the_wish(wishes: WishStore) -> None:
    await wishes.ask(replace(WISH, desired=2))
    later = replace(WISH, hold_until=AT + 500, by="bob@example.com", asked_at=AT + 9)
    await wishes.ask(later)
    assert await only(wishes) == replace(later, version=2)


async def test_an_older_hold_never_shortens_a_newer_one(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    await wishes.ask(replace(WISH, hold_until=AT + 60, by="bob@example.com"))
    assert await only(wishes) == replace(WISH, version=2)


async def test_an_older_hold_may_still_ask_for_more_nodes(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    await wishes.ask(replace(WISH, hold_until=AT + 60, desired=3))
    assert await only(wishes) == replace(WISH, desired=3, version=2)


async def test_keeping_awake_leaves_the_hold_alone_and_asking_leaves_keep_awake_alone(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    await wishes.keep_awake("small", AT + 9000, by="ann@example.com", at=AT + 1)
    await wishes.ask(replace(WISH, hold_until=AT + 240, asked_at=AT + 2))
    wish = await only(wishes)
    assert (wish.hold_until, wish.keep_awake_until, wish.version) == (AT + 240, AT + 9000, 3)


async def test_keep_awake_can_be_taken_back(wishes: WishStore) -> None:
    await wishes.keep_awake("small", AT + 9000, by="ann@example.com", at=AT)
    await wishes.keep_awake("small", 0, by="ann@example.com", at=AT + 1)
    wish = await only(wishes)
    assert (wish.desired, wish.hold_until, wish.keep_awake_until) == (1, 0, 0)


async def test_sleep_ends_hold_and_keep_awake(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    await wishes.keep_awake("small", AT + 9000, by="ann@example.com", at=AT + 1)
    await wishes.sleep("small", by="bob@example.com", at=AT + 2)
    assert await only(wishes) == Wish("small", 0, 0, "bob@example.com", AT + 2, version=3)


async def test_who_asks_after_sleep_wakes_the_model(wishes: WishStore) -> None:
    await wishes.sleep("small", by="bob@example.com", at=AT)
    await wishes.ask(WISH)
    assert await only(wishes) == replace(WISH, version=2)


async def test_a_dropped_wish_is_gone_and_dropping_it_again_is_no_error(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    read = await only(wishes)
    await wishes.drop(read)
    await wishes.drop(read)
    assert await wishes.list() == []


@pytest.mark.parametrize("hold_s", [60, 120, 500])
async def test_a_wish_that_was_asked_again_is_not_dropped(wishes: WishStore, hold_s: float) -> None:
    await wishes.ask(WISH)
    read = await only(wishes)
    await wishes.ask(replace(WISH, hold_until=AT + hold_s))
    with pytest.raises(Stale):
        await wishes.drop(read)
    assert (await only(wishes)).desired == 1


async def test_a_wish_dropped_and_asked_anew_is_not_the_one_that_was_read(wishes: WishStore) -> None:
    await wishes.ask(WISH)
    read = await only(wishes)
    await wishes.drop(read)
    await wishes.ask(replace(WISH, asked_at=AT + 30, hold_until=AT + 150))
    with pytest.raises(Stale):
        await wishes.drop(read)
    assert len(await wishes.list()) == 1


async def test_of_many_who_ask_at_once_none_is_forgotten(wishes: WishStore) -> None:
    asked = [replace(WISH, hold_until=AT + n % 7, desired=1 + n % 3, asked_at=AT + n) for n in range(30)]
    await asyncio.gather(*map(wishes.ask, asked))
    wish = await only(wishes)
    assert (wish.hold_until, wish.version) == (AT + 6, 30)


async def test_an_ask_that_races_a_drop_survives_it(wishes: WishStore) -> None:
    for turn in range(10):
        await wishes.ask(replace(WISH, asked_at=AT + turn, hold_until=AT + turn))
        read = await only(wishes)
        again = replace(WISH, asked_at=AT + turn + 0.5, hold_until=AT + turn + 0.5)
        await asyncio.gather(wishes.drop(read), wishes.ask(again), return_exceptions=True)
        assert (await only(wishes)).hold_until == again.hold_until


async def test_only_the_wish_that_begins_wakes_the_model(wishes: WishStore) -> None:
    assert await wishes.ask(WISH)
    assert not await wishes.ask(replace(WISH, asked_at=AT + 1, hold_until=WISH.hold_until + 1))
    assert not await wishes.ask(replace(WISH, asked_at=AT + 2, desired=3))
    assert await wishes.ask(replace(WISH, asked_at=WISH.hold_until + 2, hold_until=WISH.hold_until + 120))


async def test_a_model_that_is_only_kept_awake_is_woken_by_the_first_wish(wishes: WishStore) -> None:
    await wishes.keep_awake(WISH.model, AT + 500, by="ann@example.com", at=AT)
    assert await wishes.ask(WISH)
