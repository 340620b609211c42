"""ID tokens that lie, brought to both front doors: whatever the trick, nobody gets in and nothing wakes."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import OctKey, RSAKey

from control_plane.errors import Unauthenticated
from control_plane.identity import MAX_TOKEN_CHARS, SKEW_S, read_token
from control_plane.people import Flow, Provider
from tests.people.doors import Front, Reply
from tests.people.issuer import CLIENT, PROVIDER, URL, compact, encode, key, public

EVIL = RSAKey.generate_key(2048, {"kid": "one"}, private=True)


def bring(front: Front, token: str) -> Reply:
    """As a client does, to where a question would cost money, too: with a good token it would get no further."""
    look = front.ask("GET", "/api/session", authorization=f"Bearer {token}")
    asked = front.chat(body={}, authorization=f"Bearer {token}")
    assert asked.status == (400 if look.status == 200 else look.status)
    assert front.nothing_happened
    return look


def refused(front: Front, token: str, code: str = "invalid_token") -> None:
    assert bring(front, token).error == (401, code)


def test_a_good_token_is_good_at_both_doors(front: Front) -> None:
    told = bring(front, front.issuer.token()).json
    assert (told["email"], told["owner"], told["provider"]) == ("ann@example.com", True, "work")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 7, ["RS256"]])
def test_a_token_without_a_signature_is_no_token(front: Front, algorithm: object) -> None:
    head = encode(json.dumps({"alg": algorithm, "kid": "one"}).encode())
    body = encode(json.dumps(front.issuer.claims()).encode())
    for signature in ("AA", encode(b"x" * 256)):
        refused(front, f"{head}.{body}.{signature}")
    assert front.ask("GET", "/api/session", authorization=f"Bearer {head}.{body}.").status == 401


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_shared_secret(front: Front, algorithm: str) -> None:
    shown = key("one").as_pem(private=False)
    told = serialization.load_pem_public_key(shown)
    der = told.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    modulus = base64.urlsafe_b64decode(public("one")["n"] + "==")
    for secret in (shown, shown.strip(), der, modulus, json.dumps(public("one")).encode()):
        head = encode(json.dumps({"alg": algorithm, "kid": "one"}).encode())
        body = encode(json.dumps(front.issuer.claims()).encode())
        signature = hmac.digest(secret, f"{head}.{body}".encode(), f"sha{algorithm[2:]}")
        refused(front, f"{head}.{body}.{encode(signature)}")


def test_a_symmetric_key_among_the_issuers_is_not_used(front: Front) -> None:
    shared = OctKey.import_key("s" * 32, {"kid": "shared"})
    front.people.web.documents[f"{URL}/keys"] = {"keys": [public("one"), {**shared.as_dict(), "use": "sig"}]}
    refused(front, compact({"alg": "HS256", "kid": "shared"}, json.dumps(front.issuer.claims()), shared))


@pytest.mark.parametrize(
    "kid", ["two", "../../etc/passwd", "one' OR '1'='1", "one\x00", "https://evil.example/keys", "", "o" * 4000, "ONE"]
)
def test_a_key_id_is_a_name_and_nothing_else(front: Front, kid: str) -> None:
    refused(front, front.issuer.token({"kid": kid}))


@pytest.mark.parametrize("kid", [7, ["one"], {"kid": "one"}, True])
def test_a_key_id_that_is_no_text_is_refused(front: Front, kid: object) -> None:
    refused(front, front.issuer.token({"kid": kid}))


def test_without_a_key_id_the_only_key_is_meant_and_of_several_none(front: Front) -> None:
    assert bring(front, front.issuer.token({"kid": None})).status == 200
    front.issuer.shown = ["one", "two"]
    front.issuer.publish()
    front.clock.step(3600)
    refused(front, front.issuer.token({"kid": None}))


def test_keys_that_a_token_brings_along_are_not_looked_at(front: Front) -> None:
    evil = EVIL.as_dict(private=False)
    for header in (
        {"jwk": evil},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"jwk": evil, "kid": None},
    ):
        told: dict[str, Any] = {"alg": "RS256", "kid": "one", **header}
        payload = json.dumps(front.issuer.claims())
        refused(front, compact({name: value for name, value in told.items() if value}, payload, EVIL))
    assert not [url for url in front.people.web.asked if "evil" in url]
    honest = front.issuer.token({"jku": "https://evil.example/keys"})
    assert bring(front, honest).status == 200
    assert not [url for url in front.people.web.asked if "evil" in url]


def test_another_key_under_the_same_id_signs_nothing(front: Front) -> None:
    refused(front, compact({"alg": "RS256", "kid": "one"}, json.dumps(front.issuer.claims()), EVIL))


def test_an_issuer_that_shows_another_ones_document_is_not_believed(front: Front) -> None:
    document = front.people.web.documents[f"{URL}/.well-known/openid-configuration"]
    document["issuer"] = "https://evil.example"
    assert bring(front, front.issuer.token()).error == (503, "aws_unavailable")


def test_keys_of_another_kind_or_use_are_passed_over(front: Front) -> None:
    odd: list[Any] = [
        7,
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "kid": "off", "crv": "P-256", "x": "AA", "y": "AA"},
        {**public("two"), "use": "enc"},
        {**public("one"), "alg": "PS256", "kid": "pss"},
        public("curve"),
        public("one"),
    ]
    front.people.web.documents[f"{URL}/keys"] = {"keys": odd}
    assert bring(front, front.issuer.token()).status == 200
    refused(front, front.issuer.token({"kid": "weak"}))
    refused(front, front.issuer.token({"kid": "off", "alg": "RS256"}))
    refused(front, compact({"alg": "RS256", "kid": "two"}, json.dumps(front.issuer.claims()), key("two")))
    refused(front, compact({"alg": "RS256", "kid": "pss"}, json.dumps(front.issuer.claims()), key("one")))
    curve = compact({"alg": "ES256", "kid": "curve"}, json.dumps(front.issuer.claims()), key("curve"))
    assert bring(front, curve).status == 200
    refused(front, compact({"alg": "RS256", "kid": "curve"}, json.dumps(front.issuer.claims()), key("one")))


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": False}, {"b64": True}]
)
def test_extensions_are_refused(front: Front, header: dict[str, object]) -> None:
    refused(front, front.issuer.token(header))


def test_a_payload_that_is_not_encoded_is_refused(front: Front) -> None:
    head = encode(json.dumps({"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]}).encode())
    payload = json.dumps(front.issuer.claims())
    signature = encode(b"x" * 256)
    assert front.ask("GET", "/api/session", authorization=f"Bearer {head}.{payload}.{signature}").status == 401


def test_a_changed_payload_is_noticed(front: Front) -> None:
    head, _, signature = front.issuer.token().split(".")
    body = encode(json.dumps(front.issuer.claims(email="bob@example.com")).encode())
    refused(front, f"{head}.{body}.{signature}")


@pytest.mark.parametrize(
    "payload",
    [
        '{"email": "bob@example.com", %s}',
        '{%s, "email": "bob@example.com"}',
        '{%s, "aud": "other"}',
    ],
)
def test_a_claim_that_comes_twice_is_refused(front: Front, payload: str) -> None:
    refused(front, front.issuer.signed(payload % json.dumps(front.issuer.claims())[1:-1]))


@pytest.mark.parametrize("payload", ["[]", "7", "null", '"text"', "", "{", "[" * 3000 + "]" * 3000, '{"exp": NaN}'])
def test_a_payload_that_is_no_object_is_refused(front: Front, payload: str) -> None:
    if payload:
        refused(front, front.issuer.signed(payload))


def test_a_huge_token_is_refused_unread(front: Front) -> None:
    refused(front, front.issuer.token(filler="x" * MAX_TOKEN_CHARS))
    refused(front, ".".join(["a" * 100_000] * 3))


# -- the claims


def test_clocks_may_differ_by_a_minute_and_no_more(front: Front) -> None:
    now = front.clock()
    cases: list[tuple[dict[str, Any], int]] = [
        ({"exp": now - SKEW_S + 1}, 200),
        ({"exp": now - SKEW_S}, 401),
        ({"iat": now + SKEW_S}, 200),
        ({"iat": now + SKEW_S + 1}, 401),
        ({"nbf": now + SKEW_S}, 200),
        ({"nbf": now + SKEW_S + 1}, 401),
    ]
    for claims, status in cases:
        assert bring(front, front.issuer.token(**claims)).status == status, claims


@pytest.mark.parametrize("value", ["9999999999", None, [], True, 1e300, -1e300])
@pytest.mark.parametrize("name", ["exp", "iat"])
def test_a_time_that_is_none_is_refused(front: Front, name: str, value: Any) -> None:
    refused(front, front.issuer.token(**{name: value}))


def test_an_infinite_time_is_refused(front: Front) -> None:
    good = json.dumps(front.issuer.claims(exp=None))[1:-1]
    for text in ("1e999", "Infinity", "9" * 5000):
        refused(front, front.issuer.signed(f'{{{good}, "exp": {text}}}'))


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": None}, "wrong_audience"),
        ({"aud": "other"}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": ["other"]}, "wrong_audience"),
        ({"aud": {"diogenes": 1}}, "wrong_audience"),
        ({"aud": f"{CLIENT} "}, "wrong_audience"),
        ({"aud": [CLIENT, "other"]}, "wrong_audience"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "wrong_audience"),
        ({"aud": CLIENT, "azp": "other"}, "wrong_audience"),
        ({"iss": f"{URL}/"}, "wrong_issuer"),
        ({"iss": URL.upper()}, "wrong_issuer"),
        ({"iss": None}, "wrong_issuer"),
        ({"iss": [URL]}, "wrong_issuer"),
        ({"iss": "http://login.example.org"}, "wrong_issuer"),
        ({"email": None}, "invalid_token"),
        ({"email": ["ann@example.com"]}, "invalid_token"),
        ({"email": "ann@example.com\n"}, "invalid_token"),
        ({"email": "ann@example.com@evil.example"}, "invalid_token"),
        ({"email": "*@example.com"}, "invalid_token"),
        ({"email_verified": 1}, "email_not_verified"),
    ],
)
def test_claims_are_taken_at_their_word(front: Front, claims: dict[str, Any], code: str) -> None:
    refused(front, front.issuer.token(**claims), code)


def test_a_token_for_several_that_was_made_for_us_is_taken(front: Front) -> None:
    assert bring(front, front.issuer.token(aud=[CLIENT, "other"], azp=CLIENT)).status == 200
    assert bring(front, front.issuer.token(aud=[CLIENT])).status == 200


def test_an_issuer_may_know_us_under_several_clients(front: Front) -> None:
    other = Provider("mobile", "Mobile", Flow.OIDC, "mobile-app", issuer=URL)
    front.people.entrance.trust(PROVIDER, other)
    front.restart()
    assert bring(front, front.issuer.token(aud="mobile-app")).json["provider"] == "mobile"


def test_google_signs_under_two_names(front: Front) -> None:
    google = Provider("google", "Google", Flow.OIDC, "g", issuer="https://accounts.google.com")
    front.people.entrance.trust(google)
    front.restart()
    front.issuer.url = "https://accounts.google.com"
    front.issuer.publish()
    assert bring(front, front.issuer.token(aud="g", iss="accounts.google.com")).json["provider"] == "google"


def test_addresses_are_compared_in_lower_case(front: Front) -> None:
    assert bring(front, front.issuer.token(email="Ann@EXAMPLE.com")).json["email"] == "ann@example.com"


# -- the keys of the issuer


def test_a_flood_of_unknown_keys_asks_the_issuer_rarely(front: Front) -> None:
    assert bring(front, front.issuer.token()).status == 200
    before = len(front.people.web.asked)
    for number in range(80):
        refused(front, front.issuer.token({"kid": f"k{number}"}))
        front.clock.step(0.2)
    assert len(front.people.web.asked) - before <= 2
    assert bring(front, front.issuer.token()).status == 200


def test_an_issuer_that_is_away_is_remembered_for_a_day(front: Front) -> None:
    assert bring(front, front.issuer.token()).status == 200
    front.people.web.documents.clear()
    front.clock.step(3600)
    assert bring(front, front.issuer.token()).status == 200
    front.clock.step(86400)
    assert bring(front, front.issuer.token()).error == (503, "aws_unavailable")
    front.issuer.publish()
    front.clock.step(front.deployment.settings.issuer_again_s)
    assert bring(front, front.issuer.token()).status == 200


# -- anything at all


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}"))
def test_any_text_is_a_token_or_a_refusal(text: str) -> None:
    with contextlib.suppress(Unauthenticated):  # and nothing else
        assert read_token(text).algorithm


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["iss", "aud", "azp", "exp", "iat", "nbf", "email", "email_verified", "nonce", "sub"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claims=st.dictionaries(NAMES, JSON, min_size=1, max_size=3))
def test_no_claim_of_any_type_is_a_fault_of_ours(front: Front, claims: dict[str, Any]) -> None:
    reply = front.ask("GET", "/api/session", authorization=f"Bearer {front.issuer.token(**claims)}")
    assert reply.status in (200, 401, 403)
