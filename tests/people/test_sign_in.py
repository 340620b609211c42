"""Sign-in by browser at both front doors: in, around, and out again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.allowlist import EFFECTIVE_S
from control_plane.errors import Unavailable
from control_plane.event import Event
from control_plane.github import CODES_PER_MINUTE
from control_plane.people import Flow, Provider
from control_plane.sessions import ABSOLUTE_S, CACHE_S, SLIDING_S
from control_plane.sign_in import BEGUN_S
from tests.memory_people import WEB_URL
from tests.people.doors import CSRF, Browser, Front
from tests.people.issuer import URL

GITHUB = Provider(
    "github",
    "GitHub",
    Flow.GITHUB,
    "Iv1.0123456789abcdef",
    authorize_url="https://github.example/login/oauth/authorize",
    token_url="https://github.example/login/oauth/access_token",
    emails_url="https://api.github.example/user/emails",
    client_secret="shh",
)


def test_somebody_on_the_allowlist_signs_in(front: Front, browser: Browser) -> None:
    asked = browser.begin()
    assert asked["response_type"] == "id_token"
    assert asked["redirect_uri"] == f"{WEB_URL}/signin"
    made = browser.come_back(asked)
    assert made.status == 201
    now = front.clock()
    assert made.json == {
        "email": "ann@example.com",
        "owner": True,
        "provider": "work",
        "expires_at": now + SLIDING_S,
        "absolute_expires_at": now + ABSOLUTE_S,
        "return_to": "/models",
    }
    (cookie,) = (one for one in made.cookies if one.startswith("__Host-diogenes="))
    for attribute in ("Path=/", "HttpOnly", "Secure", "SameSite=Strict"):
        assert f"; {attribute}" in cookie
    assert "Domain" not in cookie
    assert browser.ask("GET", "/api/session").json["email"] == "ann@example.com"
    assert browser.ask("GET", "/v1/models").status == 200
    assert list(browser.cookies) == ["__Host-diogenes"]  # the sign-in's own is gone
    assert front.nothing_happened


def test_the_cookie_is_kept_as_a_hash_only(front: Front, browser: Browser) -> None:
    browser.sign_in()
    cookie = browser.cookies["__Host-diogenes"]
    assert cookie not in str(front.people.sessions.rows)
    assert cookie.partition(".")[0] not in str(front.people.sessions.rows)


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        ({"email": "eve@elsewhere.org"}, (403, "not_on_allowlist")),
        ({"email_verified": False}, (401, "email_not_verified")),
        ({"email_verified": "true"}, (401, "email_not_verified")),
        ({"email_verified": None}, (401, "email_not_verified")),
        ({"exp": 1_000_000_000}, (401, "token_expired")),
        ({"aud": "somebody-else"}, (401, "wrong_audience")),
        ({"nonce": "another"}, (401, "wrong_nonce")),
        ({"nonce": None}, (401, "wrong_nonce")),
        ({"iss": "https://evil.example"}, (401, "wrong_issuer")),
        ({"email": "not an address"}, (401, "invalid_token")),
        ({"email": "\u212aim@example.com"}, (401, "invalid_token")),  # the Kelvin sign, whose lower case is k
    ],
)
def test_who_does_not_belong_here_gets_no_session(
    front: Front, browser: Browser, claims: dict[str, object], refusal: tuple[int, str]
) -> None:
    reply = browser.sign_in(**claims)
    assert reply.error == refusal
    assert not front.people.sessions.rows
    assert not front.people.sessions.used
    assert front.nothing_happened


def test_the_refused_address_is_told(browser: Browser) -> None:
    told = browser.sign_in(email="Eve@Elsewhere.org").json["error"]
    assert told["email"] == "eve@elsewhere.org"
    assert "eve@elsewhere.org" in told["message"]


def test_a_sign_in_of_another_browser_is_not_taken_over(front: Front, browser: Browser) -> None:
    asked = browser.begin()
    assert Browser(front).come_back(asked).error == (401, "invalid_state")
    assert browser.come_back(asked).status == 201


def test_a_state_is_good_once(front: Front, browser: Browser) -> None:
    asked = browser.begin()
    kept = dict(browser.cookies)
    assert browser.come_back(asked).status == 201
    replay = Browser(front, kept)
    assert replay.come_back(asked).error == (401, "invalid_state")
    front.restart()  # the other front door, so to speak
    assert replay.come_back(asked).error == (401, "invalid_state")
    assert len(front.people.sessions.rows) == 1


def test_the_token_of_one_sign_in_does_not_serve_another(front: Front, browser: Browser) -> None:
    first, second = browser.begin(), browser.begin()
    token = front.issuer.token(nonce=first["nonce"])
    body = {"state": second["state"], "id_token": token}
    assert browser.ask("POST", "/api/session", body=body).error == (401, "wrong_nonce")


def test_two_tabs_sign_in_at_the_same_time(browser: Browser) -> None:
    first, second = browser.begin(), browser.begin()
    assert browser.come_back(first).status == 201
    assert browser.come_back(second).status == 201


def test_a_sign_in_that_takes_too_long_is_begun_anew(front: Front, browser: Browser) -> None:
    asked = browser.begin()
    front.clock.step(BEGUN_S)
    assert browser.come_back(asked).error == (401, "state_expired")


@pytest.mark.parametrize("cookie", ["", "x", "x.y", "e30.e30", "." * 100, "A" * 5000])
def test_a_forged_cookie_begins_nothing(browser: Browser, cookie: str) -> None:
    asked = browser.begin()
    (name,) = browser.cookies
    browser.cookies[name] = cookie
    assert browser.come_back(asked).error == (401, "invalid_state")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "x"},
        {"state": "x", "id_token": "a.b.c", "code": "y"},
        {"state": 7, "id_token": "a.b.c"},
        {"state": "x", "id_token": "a" * 20_000},
        [],
    ],
)
def test_what_no_provider_answers_is_a_400(browser: Browser, body: object) -> None:
    assert browser.ask("POST", "/api/session", body=body).status == 400


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "models", "", "/a\nb", "/é", "/" + "a" * 600]
)
def test_the_way_back_leads_nowhere_else(browser: Browser, path: str) -> None:
    reply = browser.ask("POST", "/api/session/start", body={"provider": "work", "return_to": path})
    assert reply.status == 400
    assert reply.json["error"]["param"] == "return_to"


def test_an_unknown_provider_is_told(browser: Browser) -> None:
    reply = browser.ask("POST", "/api/session/start", body={"provider": "nobody"})
    assert reply.error == (400, "unknown_provider")


def test_a_provider_that_does_not_answer_is_told(front: Front, browser: Browser) -> None:
    front.people.web.broken.fail("get")
    reply = browser.ask("POST", "/api/session/start", body={"provider": "work"})
    assert reply.error == (503, "aws_unavailable")
    front.clock.step(front.deployment.settings.issuer_again_s)
    browser.begin()


def test_the_keys_of_the_issuer_may_change(front: Front, browser: Browser) -> None:
    assert browser.sign_in().status == 201
    front.issuer.rotate()
    front.clock.step(front.deployment.settings.issuer_again_s)
    assert Browser(front).sign_in().status == 201
    front.issuer.signing = "one"  # the old key is shown no more
    front.clock.step(3600)
    assert Browser(front).sign_in().error == (401, "invalid_token")


def test_begun_sign_ins_store_nothing(front: Front, browser: Browser) -> None:
    for _ in range(50):
        browser.begin()
    assert not front.people.sessions.rows
    assert not front.people.sessions.used
    assert front.people.web.asked.count(f"{URL}/keys") == 1  # however many begin


# -- sessions


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


def test_who_is_turned_away_is_told_in_numbers_once_a_minute(front: Front) -> None:
    for _ in range(50):
        front.ask("GET", "/v1/models", authorization="Bearer dio-secret-thing")
        front.write_events()
        front.clock.step(2)
    events = told_of(front, "sign-in-refused")
    assert 1 <= len(events) <= 3
    assert "dio-secret" not in str(front.deployment.events.kept)
    assert set(events[0].data) == {"invalid_api_key"}


# -- GitHub


@pytest.fixture
def github(front: Front, browser: Browser) -> Browser:
    front.people.entrance.trust(GITHUB)
    front.restart()
    front.people.web.documents[GITHUB.token_url] = {"access_token": "gho_1", "token_type": "bearer"}
    tell(front, ("ann@example.com", True, True))
    return browser


def tell(front: Front, *emails: tuple[str, bool, bool]) -> None:
    front.people.web.documents[f"{GITHUB.emails_url} gho_1"] = [
        {"email": email, "verified": verified, "primary": primary} for email, verified, primary in emails
    ]


def test_github_signs_in_by_a_code(front: Front, github: Browser) -> None:
    asked = github.begin(GITHUB)
    assert (asked["scope"], asked["code_challenge_method"]) == ("user:email", "S256")
    made = github.ask("POST", "/api/session", body={"state": asked["state"], "code": "abc"})
    assert (made.status, made.json["provider"]) == (201, "github")
    (form,) = front.people.web.posted
    assert (form["code"], form["client_secret"], form["redirect_uri"]) == ("abc", "shh", f"{WEB_URL}/signin")
    assert len(form["code_verifier"]) == 43
    assert "shh" not in str(made)


def test_of_several_addresses_at_github_the_verified_one_on_the_allowlist_counts(front: Front, github: Browser) -> None:
    tell(front, ("ann@elsewhere.org", True, True), ("bob@example.com", False, False), ("Ann@Example.com", True, False))
    made = github.ask("POST", "/api/session", body={"state": github.begin(GITHUB)["state"], "code": "abc"})
    assert made.json["email"] == "ann@example.com"


def test_nobody_gets_in_from_github_without_a_verified_address(front: Front, github: Browser) -> None:
    tell(front, ("ann@example.com", False, True))
    reply = github.ask("POST", "/api/session", body={"state": github.begin(GITHUB)["state"], "code": "abc"})
    assert reply.error == (401, "email_not_verified")
    tell(front, ("eve@elsewhere.org", True, True))
    reply = github.ask("POST", "/api/session", body={"state": github.begin(GITHUB)["state"], "code": "abc"})
    assert reply.error == (403, "not_on_allowlist")


def test_a_code_that_github_does_not_know_is_told(front: Front, github: Browser) -> None:
    front.people.web.documents[GITHUB.token_url] = {"error": "bad_verification_code"}
    reply = github.ask("POST", "/api/session", body={"state": github.begin(GITHUB)["state"], "code": "abc"})
    assert reply.error == (401, "invalid_code")


def test_github_is_not_asked_for_code_after_code(front: Front, github: Browser) -> None:
    front.people.web.documents[GITHUB.token_url] = {"error": "bad_verification_code"}
    refusals = [
        github.ask("POST", "/api/session", body={"state": github.begin(GITHUB)["state"], "code": f"{number}"}).error
        for number in range(CODES_PER_MINUTE + 5)
    ]
    assert refusals == [(401, "invalid_code")] * CODES_PER_MINUTE + [(429, "rate_limit_exceeded")] * 5


def test_without_a_begun_sign_in_github_is_not_asked(front: Front, github: Browser) -> None:
    reply = Browser(front).ask("POST", "/api/session", body={"state": "s" * 43, "code": "abc"})
    assert reply.error == (401, "invalid_state")
    assert not front.people.web.posted


# -- the allowlist, and who is on it no more


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
    assert carl.ask("GET", "/api/session").error == (403, "not_on_allowlist")


def test_an_owner_makes_another_owner(front: Front, browser: Browser) -> None:
    browser.sign_in()
    bob = Browser(front)
    bob.sign_in(email="bob@example.com")
    assert bob.ask("GET", "/api/allowlist").error == (403, "owner_only")
    assert browser.ask("PUT", "/api/allowlist/bob@example.com", body={"owner": True}, **CSRF).status == 204
    assert bob.ask("GET", "/api/allowlist").status == 200
    assert bob.ask("PUT", "/api/allowlist/*@elsewhere.org", body={"owner": True}, **CSRF).status == 400
    assert bob.ask("DELETE", "/api/allowlist/ann@example.com", **CSRF).error == (409, "owner_stays")


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
