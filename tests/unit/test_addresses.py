"""Addresses, seals, cookies and ways back: the parsers of what strangers send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.addresses import InvalidAddress, domain_entry, fold, fold_entry
from control_plane.errors import InvalidRequest
from control_plane.routes.cookies import Cookies, parse
from control_plane.seal import BrokenSeal, Seal
from control_plane.sign_in import checked_path

SEAL = Seal("s" * 64)


@pytest.mark.parametrize(
    ("email", "folded"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann.Lee+x@Mail.Example.COM", "ann.lee+x@mail.example.com"),
        ("o'neil_1/2%3@example.co", "o'neil_1/2%3@example.co"),
    ],
)
def test_an_address_is_folded(email: str, folded: str) -> None:
    assert fold(email) == folded
    assert fold(folded) == folded


@pytest.mark.parametrize(
    "email",
    [
        *("", "ann", "@example.com", "ann@", "ann@example", "ann@example.c", "ann@@example.com", "a b@example.com"),
        *("ann@example.com\n", " ann@example.com", "ann@exa mple.com", "ann@-example.com", "ann@example-.com"),
        *("ann,bob@example.com", "*@example.com", "a*@example.com", "\u212aim@example.com", "ann@ex\u00e4mple.com"),
        *("a" * 250 + "@example.com", "ann@" + "a" * 64 + ".com", "ann@.com", "ann@a..com", "\x00@example.com"),
    ],
)
def test_what_is_no_plain_address_is_refused(email: str) -> None:
    with pytest.raises(InvalidAddress):
        fold(email)


def test_a_whole_domain_is_an_entry_and_no_address() -> None:
    assert fold_entry("*@Example.org") == "*@example.org"
    assert domain_entry("ann@example.org") == "*@example.org"
    for entry in ("*", "*@", "*@*", "*@example", "ann@*", "**@example.org"):
        with pytest.raises(InvalidAddress):
            fold_entry(entry)


@given(st.text(max_size=40))
def test_any_text_is_an_address_in_one_form_or_none(text: str) -> None:
    try:
        folded = fold(text)
    except InvalidAddress:
        return
    assert folded.isascii()
    assert fold(folded) == folded == folded.lower()
    assert folded.count("@") == 1
    assert "," not in folded


@given(st.text(max_size=60))
def test_what_was_sealed_is_opened_for_its_purpose_only(text: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return
    sealed = SEAL.close("session", text)
    assert SEAL.open("session", sealed) == text
    for purpose, seal in (("sign-in", SEAL), ("session", Seal("t" * 64))):
        with pytest.raises(BrokenSeal):
            seal.open(purpose, sealed)


@given(place=st.integers(0, 200), letter=st.characters(codec="ascii"))
def test_a_changed_seal_is_broken(place: int, letter: str) -> None:
    sealed = SEAL.close("session", "something of some length")
    place %= len(sealed)
    changed = sealed[:place] + letter + sealed[place + 1 :]
    if changed != sealed:
        with pytest.raises(BrokenSeal):
            SEAL.open("session", changed)


@given(st.text(max_size=100))
def test_any_text_is_no_seal(text: str) -> None:
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        with pytest.raises(BrokenSeal):
            SEAL.open("session", text)


def test_a_short_secret_seals_nothing() -> None:
    with pytest.raises(ValueError, match="32"):
        Seal("short")


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_any_header_is_read_as_cookies(header: str) -> None:
    assert all(isinstance(value, str) for value in parse(header).values())


def test_of_cookies_the_first_of_a_name_counts() -> None:
    assert parse('a=1; b="2"; a=3; c; =4; d=5=6') == {"a": "1", "b": "2", "": "4", "d": "5=6"}
    assert parse("") == {}


def test_cookies_are_for_this_host_over_tls_but_at_a_desk() -> None:
    secure, desk = Cookies(plain_http=False), Cookies(plain_http=True)
    told = secure.setting(secure.session, "x", max_age_s=60.9)
    assert told == "__Host-diogenes=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
    assert desk.setting(desk.session, "x", max_age_s=60) == "diogenes=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"
    assert secure.sign_in("abcdefghijkl") == "__Host-diogenes-signin-abcdefgh"


@given(st.text(max_size=80) | st.from_regex(r"/[/\\a-z:.?#@%]{0,20}"))
def test_a_way_back_is_a_path_of_ours_or_refused(path: str) -> None:
    try:
        checked = checked_path(path)
    except InvalidRequest:
        return
    assert checked.startswith("/")
    assert not checked.startswith(("//", "/\\"))
    assert "\\" not in checked
    assert checked.isprintable()
    assert checked.isascii()


@pytest.mark.parametrize("path", ["/", "/models", "/chat/abc?x=1#y", "/models/Qwen/Qwen3-14B-AWQ", "/a//b"])
def test_paths_of_the_web_app_are_ways_back(path: str) -> None:
    assert checked_path(path) == path
