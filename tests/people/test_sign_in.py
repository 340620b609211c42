"""Sign-in by browser at both front doors: in, around, and out again."""

from __future__ import annotations

import pytest

from control_plane.github import CODES_PER_MINUTE
from control_plane.people import Flow, Provider
from control_plane.sessions import ABSOLUTE_S, SLIDING_S
from control_plane.sign_in import BEGUN_S
from tests.memory_people import WEB_URL
from tests.people.doors import Browser, Front
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


def test_of_one_sign_in_github_is_not_asked_for_code_after_code_and_others_go_on(front: Front, github: Browser) -> None:
    front.people.web.documents[GITHUB.token_url] = {"error": "bad_verification_code"}
    state = github.begin(GITHUB)["state"]
    refusals = [
        github.ask("POST", "/api/session", body={"state": state, "code": f"{number}"}).error
        for number in range(CODES_PER_MINUTE + 5)
    ]
    assert refusals == [(401, "invalid_code")] * CODES_PER_MINUTE + [(429, "rate_limit_exceeded")] * 5
    front.people.web.documents[GITHUB.token_url] = {"access_token": "gho_1", "token_type": "bearer"}
    other = Browser(front)
    assert other.ask("POST", "/api/session", body={"state": other.begin(GITHUB)["state"], "code": "abc"}).status == 201


def test_without_a_begun_sign_in_github_is_not_asked_and_nothing_counted(front: Front, github: Browser) -> None:
    state = github.begin(GITHUB)["state"]
    for _ in range(2 * CODES_PER_MINUTE):
        for made_up in ("s" * 43, state):  # a state that somebody saw is nothing without its cookie
            reply = Browser(front).ask("POST", "/api/session", body={"state": made_up, "code": "abc"})
            assert reply.error == (401, "invalid_state")
    assert not front.people.web.posted
    assert github.ask("POST", "/api/session", body={"state": state, "code": "abc"}).status == 201
