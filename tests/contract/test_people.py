"""The promises of SessionStore and OverrideStore."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import Stale
from control_plane.people import Override, Session, SessionStore
from rehearsal.faults import Fault
from tests.contract.under_test import Desk, Stores

AT = 1_795_000_000.5
SESSION = Session("ab" * 32, "ann@example.com", "google", AT, AT + 43200, AT + 86400 * 30)
BOB = Override("bob@example.org", allowed=True, owner=False, by="ann@example.com", at=AT)


@pytest.fixture
async def sessions(stores: Stores) -> SessionStore:
    await stores.sessions.add(SESSION)
    return stores.sessions


async def test_a_session_is_found_by_its_hash(sessions: SessionStore) -> None:
    assert await sessions.get(SESSION.id_hash) == SESSION
    assert await sessions.get("cd" * 32) is None


async def test_a_sessions_end_is_moved_on(sessions: SessionStore) -> None:
    await sessions.extend(SESSION.id_hash, AT + 50_000.25)
    assert await sessions.get(SESSION.id_hash) == replace(SESSION, expires_at=AT + 50_000.25)


async def test_an_ended_session_is_not_brought_back(sessions: SessionStore) -> None:
    await sessions.end(SESSION.id_hash)
    await sessions.end(SESSION.id_hash)
    with pytest.raises(Stale):
        await sessions.extend(SESSION.id_hash, AT + 50_000)
    assert await sessions.get(SESSION.id_hash) is None


async def test_everywhere_is_every_session_of_one_person(sessions: SessionStore) -> None:
    await sessions.add(replace(SESSION, id_hash="cd" * 32))
    await sessions.add(replace(SESSION, id_hash="ef" * 32, email="bob@example.com"))
    await sessions.use_once("12" * 32, until=AT + 600)
    assert set(await sessions.emails()) == {"ann@example.com", "bob@example.com"}
    assert await sessions.end_all("ann@example.com") == 2
    assert await sessions.get(SESSION.id_hash) is None
    assert await sessions.get("ef" * 32) is not None
    assert await sessions.end_all("ann@example.com") == 0


async def test_what_is_used_once_is_used_once_however_many_try(sessions: SessionStore) -> None:
    tries = [sessions.use_once("12" * 32, until=AT + 600) for _ in range(5)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(outcome, Stale) for outcome in outcomes].count(True) == 4
    assert outcomes.count(None) == 1
    await sessions.use_once("34" * 32, until=AT + 600)


async def test_what_was_written_but_not_answered_is_not_taken_for_somebody_elses(
    desk: Desk, dynamo_stores: Stores
) -> None:
    for _ in range(2):
        desk.faults.add(Fault.parse({"lose_reply": "dynamodb:PutItem"}))
    await dynamo_stores.sessions.add(SESSION)
    await dynamo_stores.sessions.use_once("56" * 32, until=AT + 600)
    with pytest.raises(Stale):
        await dynamo_stores.sessions.use_once("56" * 32, until=AT + 600)


async def test_a_decision_takes_the_place_of_the_one_before(stores: Stores) -> None:
    assert list(await stores.overrides.list()) == []
    await stores.overrides.put(BOB)
    await stores.overrides.put(replace(BOB, entry="*@example.net"))
    await stores.overrides.put(replace(BOB, allowed=False, at=AT + 1))
    assert list(await stores.overrides.list()) == [
        replace(BOB, entry="*@example.net"),
        replace(BOB, allowed=False, at=AT + 1),
    ]


async def test_two_owners_deciding_at_once_lose_nothing(stores: Stores) -> None:
    people = [replace(BOB, entry=f"person{number}@example.org") for number in range(8)]
    await asyncio.gather(*(stores.overrides.put(person) for person in people))
    assert list(await stores.overrides.list()) == people
