"""Web sessions at both front doors: how long they live, how they end, and what another site can do with them."""

from __future__ import annotations

import pytest

from control_plane.sessions import ABSOLUTE_S, CACHE_S, SLIDING_S
from tests.memory_people import WEB_URL
from tests.people.doors import CSRF, Browser, Front


def test_a_session_slides_and_ends(front: Front, browser: Browser) -> None:
    browser.sign_in()
    for _ in range(3):
        front.clock.step(SLIDING_S - 60)
        assert browser.ask("GET", "/api/session").status == 200
    front.clock.step(SLIDING_S)
    assert browser.ask("GET", "/api/session").error == (401, "session_expired")


def test_a_session_ends_after_thirty_days_however_much_it_is_used(front: Front, browser: Browser) -> None:
    browser.sign_in()
    steps = int(ABSOLUTE_S / 36_000)
    for _ in range(steps - 1):
        front.clock.step(36_000)
        assert browser.ask("GET", "/api/session").status == 200
    front.clock.step(36_000)
    assert browser.ask("GET", "/api/session").error == (401, "session_expired")


def test_a_used_session_is_written_at_most_every_ten_minutes(front: Front, browser: Browser) -> None:
    browser.sign_in()
    (id_hash,) = front.people.sessions.rows
    ends = set()
    for _ in range(120):
        front.clock.step(10)
        browser.ask("GET", "/api/session")
        ends.add(front.people.sessions.rows[id_hash].expires_at)
    assert len(ends) <= 3


def test_signing_out_ends_this_browser(front: Front, browser: Browser) -> None:
    other = Browser(front)
    browser.sign_in()
    other.sign_in()
    kept = dict(browser.cookies)
    assert browser.ask("DELETE", "/api/session", **CSRF).status == 204
    assert not browser.cookies
    assert Browser(front, kept).ask("GET", "/api/session").error == (401, "session_expired")
    assert other.ask("GET", "/api/session").status == 200


def test_a_second_tab_is_signed_out_with_the_first(front: Front, browser: Browser) -> None:
    browser.sign_in()
    tab = Browser(front, browser.cookies)  # the same jar
    kept = dict(browser.cookies)
    assert browser.ask("DELETE", "/api/session", **CSRF).status == 204
    assert tab.ask("GET", "/api/session").error == (401, "missing_api_key")
    stale = Browser(front, kept)  # a request that was under way
    assert stale.ask("DELETE", "/api/session", **CSRF).error == (401, "session_expired")


def test_signing_out_everywhere_ends_every_browser(front: Front, browser: Browser) -> None:
    others = [Browser(front) for _ in range(3)]
    for one in (browser, *others):
        one.sign_in()
    bob = Browser(front)
    bob.sign_in(email="bob@example.com")
    assert browser.ask("DELETE", "/api/session?everywhere=true", **CSRF).status == 204
    assert [one.ask("GET", "/api/session").status for one in others] == [401] * 3
    assert bob.ask("GET", "/api/session").status == 200


def test_a_session_ended_elsewhere_dies_within_ten_seconds(front: Front, browser: Browser) -> None:
    browser.sign_in()
    browser.ask("GET", "/api/session")
    front.people.sessions.rows.clear()  # another process did it
    front.clock.step(CACHE_S)
    assert browser.ask("GET", "/api/session").error == (401, "session_expired")


def test_a_flood_of_forged_cookies_reads_no_table(front: Front, browser: Browser) -> None:
    browser.sign_in()
    real = browser.cookies["__Host-diogenes"]
    before = front.people.sessions.reads
    for number in range(100):
        forged = Browser(front, {"__Host-diogenes": f"{number:043d}.{real.partition('.')[2]}"})
        assert forged.ask("GET", "/api/session").error == (401, "session_expired")
    assert front.people.sessions.reads == before
    assert browser.ask("GET", "/api/session").status == 200


def test_a_cookie_of_the_sign_in_is_no_session(browser: Browser) -> None:
    browser.begin()
    (cookie,) = browser.cookies.values()
    browser.cookies = {"__Host-diogenes": cookie}
    assert browser.ask("GET", "/api/session").error == (401, "session_expired")


# -- requests of other sites


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_diogenes_csrf": "0"},
        {"x_diogenes_csrf": "1", "origin": "https://evil.example"},
        {"x_diogenes_csrf": "1", "origin": "null"},
        {"x_diogenes_csrf": "1", "origin": f"{WEB_URL}.evil.example"},
        {"origin": WEB_URL},
    ],
)
def test_another_site_changes_nothing_with_our_cookie(front: Front, browser: Browser, headers: dict[str, str]) -> None:
    browser.sign_in()
    for method, path, body in (
        ("DELETE", "/api/session", None),
        ("POST", "/api/keys", {"name": "stolen"}),
        ("POST", "/api/cluster/scale", {"model": "org/model", "desired": 1}),
        ("POST", "/v1/chat/completions", {"model": "org/model", "messages": [{"role": "user", "content": "x"}]}),
        ("PUT", "/api/allowlist/eve@elsewhere.org", None),
    ):
        assert browser.ask(method, path, body=body, **headers).error == (403, "csrf_failed")
    assert not front.deployment.keys.rows
    assert not front.people.overrides.rows
    assert front.nothing_happened


def test_another_site_begins_and_ends_no_sign_in(browser: Browser) -> None:
    evil = {"origin": "https://evil.example"}
    asked = browser.begin()
    assert browser.ask("POST", "/api/session/start", body={"provider": "work"}, **evil).error == (403, "csrf_failed")
    assert browser.ask("POST", "/api/session", body={"state": asked["state"], "id_token": "a.b.c"}, **evil).error == (
        403,
        "csrf_failed",
    )


def test_our_own_pages_may_change_things(browser: Browser) -> None:
    browser.sign_in()
    assert browser.ask("POST", "/api/keys", body={"name": "mine"}, **CSRF).status == 201
