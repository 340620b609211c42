"""The allowlist at both front doors, an owner's changes to it, and what is told of people in the event log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.allowlist import EFFECTIVE_S
from control_plane.errors import Unavailable
from control_plane.event import Event
from tests.people.doors import CSRF, Browser, Front


def test_who_leaves_the_configuration_is_out_within_a_minute_with_session_key_and_token(
    front: Front, browser: Browser
) -> None:
    key = front.key("bob@example.com")
    browser.sign_in(email="bob@example.com")
    token = front.issuer.token(email="bob@example.com")
    ways = [{"authorization": f"Bearer {key}"}, {"authorization": f"Bearer {token}"}]
    assert [front.ask("GET", "/v1/models", **way).status for way in ways] == [200, 200]
    front.people.entrance.allow("ann@example.com")
    front.clock.step(EFFECTIVE_S)
    assert browser.ask("GET", "/api/session").error == (403, "not_on_allowlist")
    assert front.ask("GET", "/v1/models", **ways[1]).error == (403, "not_on_allowlist")
    assert front.ask("GET", "/v1/models", **ways[0]).error == (401, "invalid_api_key")
    assert front.chat(**ways[0]).error == (401, "invalid_api_key")
    assert front.nothing_happened


def test_an_owner_lets_somebody_in_and_keeps_somebody_out(front: Front, browser: Browser) -> None:
    browser.sign_in()
    assert browser.ask("PUT", "/api/allowlist/Carl@Elsewhere.org", **CSRF).status == 204
    carl = Browser(front)
    assert carl.sign_in(email="carl@elsewhere.org").status == 201
    assert carl.ask("GET", "/api/session").json["owner"] is False
    assert browser.ask("DELETE", "/api/allowlist/bob@example.com", **CSRF).status == 204
    assert Browser(front).sign_in(email="bob@example.com").error == (403, "not_on_allowlist")
    entries = {entry["email"]: entry for entry in browser.ask("GET", "/api/allowlist").json["entries"]}
    assert entries["carl@elsewhere.org"] == {
        "email": "carl@elsewhere.org",
        "source": "owner",
        "allowed": True,
        "owner": False,
    }
    assert entries["bob@example.com"]["allowed"] is False
    assert entries["*@example.com"]["source"] == "pulumi"
    browser.ask("DELETE", "/api/allowlist/carl@elsewhere.org", **CSRF)
    assert carl.ask("GET", "/api/session").error == (401, "session_expired")
    assert carl.sign_in(email="carl@elsewhere.org").error == (403, "not_on_allowlist")


def test_an_owner_makes_another_owner(front: Front, browser: Browser) -> None:
    browser.sign_in()
    bob = Browser(front)
    bob.sign_in(email="bob@example.com")
    assert bob.ask("GET", "/api/allowlist").error == (403, "owner_only")
    assert browser.ask("PUT", "/api/allowlist/bob@example.com", body={"owner": True}, **CSRF).status == 204
    assert bob.ask("GET", "/api/allowlist").status == 200
    assert bob.ask("PUT", "/api/allowlist/*@elsewhere.org", body={"owner": True}, **CSRF).status == 400
    assert bob.ask("DELETE", "/api/allowlist/ann@example.com", **CSRF).error == (409, "owner_stays")


def test_letting_an_owner_in_again_without_a_word_about_owning_leaves_them_one(front: Front, browser: Browser) -> None:
    browser.sign_in()
    browser.ask("PUT", "/api/allowlist/bob@example.com", body={"owner": True}, **CSRF)
    for body, owner in ((None, True), ({"owner": False}, False), (None, False)):
        assert browser.ask("PUT", "/api/allowlist/bob@example.com", body=body, **CSRF).status == 204
        assert front.people.overrides.rows["bob@example.com"].owner is owner


# -- gone for good


def test_who_is_kept_out_and_let_in_again_finds_nothing_of_before(front: Front, browser: Browser) -> None:
    gone, mine = front.key("bob@example.com"), front.key()
    bob = Browser(front)
    bob.sign_in(email="bob@example.com")
    browser.sign_in()
    assert browser.ask("DELETE", "/api/allowlist/bob@example.com", **CSRF).status == 204
    assert {row.email for row in front.deployment.keys.rows.values()} == {"ann@example.com"}
    assert {session.email for session in front.people.sessions.rows.values()} == {"ann@example.com"}
    browser.ask("PUT", "/api/allowlist/bob@example.com", **CSRF)
    front.clock.step(EFFECTIVE_S)
    assert bob.ask("GET", "/api/session").error == (401, "session_expired")
    assert front.ask("GET", "/v1/models", authorization=f"Bearer {gone}").error == (401, "invalid_api_key")
    assert bob.sign_in(email="bob@example.com").status == 201
    assert front.ask("GET", "/v1/models", authorization=f"Bearer {mine}").status == 200
    (event,) = told_of(front, "key-revoked")
    assert (event.cause, event.data["of"]) == ("ann@example.com", "bob@example.com")


def test_of_a_domain_that_is_kept_out_those_stay_who_are_let_in_by_name(front: Front, browser: Browser) -> None:
    browser.sign_in()
    browser.ask("PUT", "/api/allowlist/carl@example.com", **CSRF)
    for name in ("bob", "carl", "ann"):
        front.key(f"{name}@example.com")
        Browser(front).sign_in(email=f"{name}@example.com")
    assert browser.ask("DELETE", "/api/allowlist/*@example.com", **CSRF).status == 204
    left = {"carl@example.com", "ann@example.com"}
    assert {row.email for row in front.deployment.keys.rows.values()} == left
    assert {session.email for session in front.people.sessions.rows.values()} == left


def test_whom_the_configuration_dropped_an_owner_lets_in_without_what_they_had(front: Front, browser: Browser) -> None:
    key, bob = front.key("bob@example.com"), Browser(front)
    bob.sign_in(email="bob@example.com")
    front.people.entrance.allow("ann@example.com")
    front.clock.step(EFFECTIVE_S)
    browser.sign_in()
    browser.ask("PUT", "/api/allowlist/bob@example.com", **CSRF)
    assert bob.ask("GET", "/api/session").error == (401, "session_expired")
    assert front.ask("GET", "/v1/models", authorization=f"Bearer {key}").error == (401, "invalid_api_key")


def test_a_removal_that_was_cut_off_is_finished_by_the_next(front: Front, browser: Browser) -> None:
    front.key("bob@example.com")
    Browser(front).sign_in(email="bob@example.com")
    browser.sign_in()
    front.people.sessions.broken.fail("end_all", Unavailable("throttled"))
    assert browser.ask("DELETE", "/api/allowlist/bob@example.com", **CSRF).error == (503, "aws_unavailable")
    assert Browser(front).sign_in(email="bob@example.com").error == (403, "not_on_allowlist")
    assert browser.ask("DELETE", "/api/allowlist/bob@example.com", **CSRF).status == 204
    assert not front.deployment.keys.rows
    assert len(front.people.sessions.rows) == 1


@pytest.mark.parametrize("email", ["nobody", "*@*", "a b@example.com", "%C3%A9@example.com", "a@b", "*"])
def test_what_is_no_address_is_not_let_in(browser: Browser, email: str) -> None:
    browser.sign_in()
    reply = browser.ask("PUT", f"/api/allowlist/{email}".replace(" ", "%20"), **CSRF)
    assert reply.status == 400
    assert reply.json["error"]["param"] == "email"


def test_when_the_parameters_cannot_be_read_the_last_ones_hold_for_a_minute(front: Front, browser: Browser) -> None:
    browser.sign_in()
    front.people.entrance.broken.fail("read", times=100)
    front.clock.step(EFFECTIVE_S - 1)
    assert browser.ask("GET", "/api/session").status == 200
    front.clock.step(1)
    assert browser.ask("GET", "/api/session").error == (503, "aws_unavailable")
    assert front.nothing_happened


def test_a_session_that_cannot_be_kept_is_no_session(front: Front, browser: Browser) -> None:
    front.people.sessions.broken.fail("add", Unavailable("throttled"))
    assert browser.sign_in().error == (503, "aws_unavailable")
    assert "__Host-diogenes" not in browser.cookies
    front.people.sessions.broken.fail("use_once", Unavailable("throttled"))
    assert browser.sign_in().error == (503, "aws_unavailable")
    assert browser.sign_in().status == 201


def test_a_provider_taken_out_of_the_configuration_signs_nobody_in(front: Front, browser: Browser) -> None:
    asked = browser.begin()
    front.people.entrance.configured = replace(front.people.entrance.configured, providers=[])
    front.clock.step(EFFECTIVE_S)
    assert browser.come_back(asked).error == (401, "invalid_state")


def test_the_sessions_of_a_provider_taken_out_of_the_configuration_are_over(front: Front, browser: Browser) -> None:
    browser.sign_in()
    assert browser.ask("GET", "/api/session").status == 200
    front.people.entrance.configured = replace(front.people.entrance.configured, providers=[])
    front.clock.step(EFFECTIVE_S)
    assert browser.ask("GET", "/api/session").error == (401, "session_expired")


# -- what is told


def told_of(front: Front, kind: str) -> list[Event]:
    front.write_events()
    return [event for event in front.deployment.events.kept if event.kind == kind]


def test_sign_ins_and_changes_of_the_allowlist_are_events(front: Front, browser: Browser) -> None:
    browser.sign_in()
    browser.ask("PUT", "/api/allowlist/Carl@Elsewhere.org", **CSRF)
    browser.ask("DELETE", "/api/session?everywhere=true", **CSRF)
    for kind, message in (
        ("signed-in", "ann@example.com signed in with work."),
        ("allowlist-changed", "ann@example.com let carl@elsewhere.org in."),
        ("signed-out", "ann@example.com signed out everywhere."),
    ):
        assert [event.message for event in told_of(front, kind)] == [message]


def test_what_others_do_with_keys_and_sign_ins_is_theirs_and_the_owners(front: Front, browser: Browser) -> None:
    browser.sign_in()
    bob, carl = Browser(front), Browser(front)
    bob.sign_in(email="bob@example.com")
    carl.sign_in(email="carl@example.com")
    key = carl.ask("POST", "/api/keys", body={"name": "carl's secret plan"}, **CSRF).json["key_id"]
    browser.ask("DELETE", f"/api/keys/{key}", **CSRF)
    browser.ask("PUT", "/api/allowlist/dora@elsewhere.org", **CSRF)
    carl.ask("DELETE", "/api/session?everywhere=true", **CSRF)
    front.write_events()

    def seen(by: Browser) -> list[tuple[str, str]]:
        told = by.ask("GET", "/api/events").json["events"]
        return [(event["kind"], event["cause"].partition("@")[0]) for event in reversed(told)]

    assert seen(bob) == [("signed-in", "bob")]
    assert seen(browser) == [
        ("signed-in", "ann"),
        ("signed-in", "bob"),
        ("signed-in", "carl"),
        ("key-created", "carl"),
        ("key-revoked", "ann"),
        ("allowlist-changed", "ann"),
        ("signed-out", "carl"),
    ]
    carl.sign_in(email="carl@example.com")
    assert ("key-revoked", "ann") in seen(carl)  # theirs, by another's hand
    assert ("allowlist-changed", "ann") not in seen(carl)


def test_who_is_turned_away_is_told_in_numbers_once_a_minute(front: Front) -> None:
    for _ in range(50):
        front.ask("GET", "/v1/models", authorization="Bearer dio-secret-thing")
        front.write_events()
        front.clock.step(2)
    events = told_of(front, "sign-in-refused")
    assert 1 <= len(events) <= 3
    assert "dio-secret" not in str(front.deployment.events.kept)
    assert set(events[0].data) == {"invalid_api_key"}
