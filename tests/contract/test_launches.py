"""The promises of LaunchStore."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import Stale
from control_plane.ports import Launch
from tests.contract.under_test import Stores

LAUNCH = Launch("token-1", "small", "test-small-spot", "us-east-1a", "spot", 1_795_000_000.5)


async def test_an_intent_stands_until_it_is_settled(stores: Stores) -> None:
    await stores.launches.intend(LAUNCH)
    assert await stores.launches.list() == [LAUNCH]
    await stores.launches.settle(LAUNCH.token)
    assert await stores.launches.list() == []


async def test_settling_twice_is_settling_once(stores: Stores) -> None:
    await stores.launches.intend(LAUNCH)
    other = replace(LAUNCH, token="token-2")
    await stores.launches.intend(other)
    await stores.launches.settle(LAUNCH.token)
    await stores.launches.settle(LAUNCH.token)
    assert await stores.launches.list() == [other]


async def test_of_many_intents_with_one_token_one_stands(stores: Stores) -> None:
    intents = [replace(LAUNCH, zone=f"us-east-1{zone}") for zone in "abcdef"]
    outcomes = await asyncio.gather(*map(stores.launches.intend, intents), return_exceptions=True)
    (winner,) = (intent for intent, outcome in zip(intents, outcomes, strict=True) if outcome is None)
    assert sum(isinstance(outcome, Stale) for outcome in outcomes) == 5
    assert await stores.launches.list() == [winner]


async def test_intents_and_wishes_are_strangers_in_one_table(stores: Stores) -> None:
    await stores.launches.intend(LAUNCH)
    await stores.wishes.sleep("small", by="ann@example.com", at=1.0)
    await stores.fence.take("janitor")
    assert [launch.token for launch in await stores.launches.list()] == ["token-1"]
    assert [wish.model for wish in await stores.wishes.list()] == ["small"]


async def test_a_known_token_is_refused_even_with_the_same_words(stores: Stores) -> None:
    await stores.launches.intend(LAUNCH)
    with pytest.raises(Stale):
        await stores.launches.intend(LAUNCH)
