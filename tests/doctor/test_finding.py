"""How findings are told: to a person, to a program, and by the exit status."""

from __future__ import annotations

import json

from control_plane.doctor.finding import as_json, as_text, exit_status, failure, ok, warning

FOUND = [ok("region", "it is enabled"), warning("site", "not checked", "wait"), failure("quota", "it is 0", "ask")]


def test_json_is_a_list_of_the_same_four_members() -> None:
    assert json.loads(as_json(FOUND)) == [
        {"check": "region", "status": "ok", "message": "it is enabled", "fix": None},
        {"check": "site", "status": "warning", "message": "not checked", "fix": "wait"},
        {"check": "quota", "status": "failure", "message": "it is 0", "fix": "ask"},
    ]


def test_text_says_what_to_do_below_each_line_and_counts() -> None:
    assert as_text(FOUND).splitlines() == [
        "ok       region: it is enabled",
        "warning  site: not checked",
        "         -> wait",
        "failure  quota: it is 0",
        "         -> ask",
        "",
        "1 ok, 1 warning, 1 failure",
    ]


def test_only_a_failure_makes_the_command_fail() -> None:
    assert exit_status(FOUND) == 1
    assert exit_status(FOUND[:2]) == 0
    assert exit_status([]) == 0
