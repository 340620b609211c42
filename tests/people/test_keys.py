"""API keys at both front doors: what one may do, whose they are, and what a flood of bad ones costs."""

from __future__ import annotations

import pytest

from control_plane.api_keys import Grant, mint
from control_plane.books import Limit
from control_plane.event import EventKind
from tests.night.deployment import MODEL
from tests.people.doors import CSRF, NO_WAIT, Browser, Front


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_revoked_expired_and_never_minted_look_the_same(front: Front) -> None:
    mine, expiring, gone = front.key(), front.key(grant=Grant(expires_at=front.clock() + 5)), front.key()
    told = front.ask("GET", "/api/keys", **bearer(mine)).json["keys"]
    last = next(entry for entry in told if gone.startswith(entry["prefix"]))
    assert front.ask("DELETE", f"/api/keys/{last['key_id']}", **bearer(mine)).status == 204
    front.clock.step(11)
    bodies = {front.ask("GET", "/v1/models", **bearer(key)).body for key in (gone, expiring, mint(b"n" * 32))}
    assert len(bodies) == 1
    typo = mine[:-1] + ("A" if mine[-1] != "A" else "B")
    assert "typo" in front.ask("GET", "/v1/models", **bearer(typo)).json["error"]["message"]


def test_a_key_that_another_process_made_is_known_at_once_whoever_looked_at_keys_before(front: Front) -> None:
    front.count_the_month()
    assert front.ask("GET", "/v1/models", **bearer(front.key())).status == 200


def test_a_key_says_what_it_may_do(front: Front) -> None:
    body = {
        "name": "phone",
        "expires_at": front.clock() + 86400,
        "models": [MODEL],
        "requests_per_minute": 30,
        "monthly_budget_usd": 2.5,
        "wait_s": 0,
    }
    made = front.ask("POST", "/api/keys", body=body, **bearer(front.key()))
    assert made.status == 201
    assert {name: made.json[name] for name in body} == body
    listed = front.ask("GET", "/api/keys", **bearer(made.json["key"])).json["keys"]
    assert made.json["key"] not in str(listed)
    (phone,) = (entry for entry in listed if entry["name"] == "phone")
    assert {name: phone[name] for name in body} == body


@pytest.mark.parametrize(
    "limits",
    [
        {"expires_at": 1},
        {"expires_at": "tomorrow"},
        {"models": []},
        {"models": ["org/other"]},
        {"models": "org/model"},
        {"requests_per_minute": 0},
        {"requests_per_minute": 1.5},
        {"monthly_budget_usd": 0},
        {"monthly_budget_usd": -1},
        {"owner": True},
    ],
)
def test_limits_that_make_no_sense_are_refused(front: Front, limits: dict[str, object]) -> None:
    reply = front.ask("POST", "/api/keys", body={"name": "k", **limits}, **bearer(front.key()))
    assert reply.status in (400, 404)
    assert len(front.deployment.keys.rows) == 1


def test_a_key_asks_its_models_only(front: Front) -> None:
    run = front.deployment.models.seed("org/other", {"name": "org/other", "instanceTypes": ["g5.xlarge"]})
    front.run(run)
    key = front.key(grant=Grant(models=("org/other",)))
    assert front.chat(**bearer(key)).error == (403, "model_not_allowed")
    assert front.nothing_happened
    assert [model["id"] for model in front.ask("GET", "/v1/models", **bearer(key)).json["data"]] == ["org/other"]


def test_a_key_with_limits_changes_nothing(front: Front) -> None:
    key = front.key(grant=Grant(requests_per_minute=5))
    for method, path, body in (
        ("POST", "/api/keys", {"name": "more"}),
        ("POST", "/api/cluster/scale", {"model": MODEL, "desired": 1}),
        ("PATCH", f"/api/models/{MODEL}", {"idleTimeout": 900}),
        ("PUT", "/api/allowlist/eve@elsewhere.org", None),
        ("DELETE", "/api/session?everywhere=true", None),
    ):
        assert front.ask(method, path, body=body, **bearer(key)).error == (403, "key_is_limited")
    assert front.ask("GET", "/api/keys", **bearer(key)).status == 200
    assert front.nothing_happened


def test_what_a_key_makes_ends_with_it_and_what_a_browser_makes_does_not(front: Front, browser: Browser) -> None:
    browser.sign_in()
    mine = browser.ask("POST", "/api/keys", body={"name": "mine"}, **CSRF).json
    child = front.ask("POST", "/api/keys", body={"name": "child"}, **bearer(mine["key"])).json
    other = browser.ask("POST", "/api/keys", body={"name": "other"}, **CSRF).json
    assert (mine["made_by"], child["made_by"], other["made_by"]) == (None, mine["key_id"], None)
    assert browser.ask("DELETE", f"/api/keys/{mine['key_id']}", **CSRF).status == 204
    front.clock.step(11)
    assert front.ask("GET", "/v1/models", **bearer(child["key"])).error == (401, "invalid_api_key")
    assert front.ask("GET", "/v1/models", **bearer(other["key"])).status == 200
    front.write_events()
    revoked = [event for event in front.deployment.events.kept if event.kind is EventKind.KEY_REVOKED]
    assert {event.data["key_id"] for event in revoked} == {mine["key_id"], child["key_id"]}


def test_a_key_with_a_budget_of_the_owners_cannot_make_itself_one_without(front: Front) -> None:
    key = front.key()
    (listed,) = front.ask("GET", "/api/keys", **bearer(key)).json["keys"]
    front.run(front.deployment.limits.set(Limit(f"key:{listed['key_id']}", 5_000_000, 6_000_000)))
    front.clock.step(31)
    assert front.ask("POST", "/api/keys", body={"name": "more"}, **bearer(key)).error == (403, "key_is_limited")


def test_a_key_has_so_many_requests_a_minute(front: Front) -> None:
    key = front.key(grant=Grant(requests_per_minute=3))
    unlimited = front.key()
    for _ in range(3):
        assert front.chat(**bearer(key)).status not in (401, 403, 429)
    over = front.chat(**bearer(key))
    assert over.error == (429, "rate_limit_exceeded")
    assert dict(over.headers)["retry-after"] == "20"
    assert front.chat(**bearer(unlimited)).status != 429
    assert front.ask("GET", "/v1/models", **bearer(key)).status == 200  # looking is free
    front.clock.step(20)
    assert front.chat(**bearer(key)).status != 429
    assert front.chat(**bearer(key)).status == 429


def test_keys_are_their_owners_alone_but_for_the_deployments_owner(front: Front) -> None:
    ann, bob = front.key("ann@example.com"), front.key("bob@example.com")
    assert [entry["email"] for entry in front.ask("GET", "/api/keys", **bearer(bob)).json["keys"]] == [
        "bob@example.com"
    ]
    assert front.ask("GET", "/api/keys?everyone=true", **bearer(bob)).error == (403, "owner_only")
    everyone = front.ask("GET", "/api/keys?everyone=true", **bearer(ann)).json["keys"]
    ids = {entry["email"]: entry["key_id"] for entry in everyone}
    assert front.ask("DELETE", f"/api/keys/{ids['ann@example.com']}", **bearer(bob)).error == (404, "not_found")
    assert front.ask("DELETE", f"/api/keys/{ids['bob@example.com']}", **bearer(ann)).status == 204
    assert front.ask("GET", "/v1/models", **bearer(bob)).error == (401, "invalid_api_key")
    assert front.ask("GET", "/v1/models", **bearer(ann)).status == 200


def test_a_flood_of_unknown_keys_reads_the_table_no_more_than_good_traffic_does(front: Front) -> None:
    good = front.key()
    reads = front.deployment.keys.lists
    for number in range(300):  # a minute of five a second
        bad = mint(number.to_bytes(32))
        assert front.ask("GET", "/v1/models", **bearer(bad)).error == (401, "invalid_api_key")
        if number % 50 == 0:
            assert front.ask("GET", "/v1/models", **bearer(good)).status == 200
        front.clock.step(0.2)
    assert (
        front.deployment.keys.lists - reads <= 16
    )  # one every seven seconds, and a few for keys that might have been new
    assert front.nothing_happened


@pytest.mark.parametrize(
    "junk", ["", "x", "dio-", "dio-" + "0" * 49, "." * 3, "a.b", "eyJ.eyJ.x", "\x7f" * 10, "é" * 20]
)
def test_junk_is_a_401(front: Front, junk: str) -> None:
    reply = front.ask("GET", "/v1/models", x_api_key=junk)
    assert reply.status == 401
    assert front.ask("POST", "/v1/chat/completions", body={}, authorization=f"Bearer {junk}", **NO_WAIT).status == 401
    assert front.nothing_happened


def test_a_browser_asks_models_with_its_cookie(front: Front, browser: Browser) -> None:
    browser.sign_in()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    reply = browser.ask("POST", "/v1/chat/completions", body=body, **CSRF, **NO_WAIT)
    assert reply.status not in (401, 403)
