"""Which events are sent to people, in what words, and which are the same trouble again."""

from __future__ import annotations

import re

import pytest

from control_plane.event import Entry, Event, EventKind, EventValue
from control_plane.nodes import NodeId
from control_plane.notice import AGAIN_S, FRESH_S, MAX_CONTENT_CHARS, MAX_LISTED, MONTH_S, Notice, fix, headline, worth

AT = 1_795_046_400.0


def event(kind: EventKind, cause: str = "control plane", at: float = AT, **data: EventValue) -> Event:
    return Event(at, kind, cause, f"It is told of {kind}.", "org/m", NodeId("i-1"), data)


def failed(at: float = AT, code: str = "disk_full") -> Event:
    return event(EventKind.START_FAILED, at=at, code=code)


def numbered(*events: Event) -> list[Entry]:
    return [Entry(number, each) for number, each in enumerate(events, 1)]


SENT = {
    EventKind.START_FAILED,
    EventKind.WAKE_FAILED,
    EventKind.NODE_ADOPTED,
    EventKind.BUDGET_WARNED,
    EventKind.BUDGET_REACHED,
    EventKind.BUDGET_EXCEEDED,
}
BY_THE_JANITOR = {
    EventKind.NODE_DRAINING,
    EventKind.NODE_FAILED,
    EventKind.NODE_TERMINATING,
    EventKind.LAUNCH_ABANDONED,
}


def test_leaks_failed_starts_and_budgets_are_sent_and_nothing_else_is() -> None:
    assert {kind for kind in EventKind if headline(event(kind))} == SENT
    assert {kind for kind in EventKind if headline(event(kind, "janitor"))} == SENT | BY_THE_JANITOR


def test_a_refused_launch_is_sent_where_only_a_change_helps() -> None:
    assert headline(event(EventKind.LAUNCH_REFUSED, permanent=True)) == "a launch was refused"
    assert headline(event(EventKind.LAUNCH_REFUSED, permanent=False)) == ""


def test_what_to_do_is_always_said() -> None:
    kinds = SENT | BY_THE_JANITOR
    told = {kind: fix(event(kind, "janitor", scope="user:ann@example.com", month="2026-11")) for kind in kinds}
    assert all(told.values())
    assert "Usage page" in told[EventKind.BUDGET_WARNED]
    assert "`pulumi stack output webUrl`" in told[EventKind.BUDGET_WARNED]  # a person with a mail has no API at hand
    assert not any("/api/" in text for text in told.values())
    assert "first of the month" in told[EventKind.BUDGET_REACHED]
    assert fix(event(EventKind.START_FAILED, fix="Take a larger disk.")) == "Take a larger disk."


def test_a_notice_says_when_what_and_what_to_do() -> None:
    notice = Notice("diogenes-prod", numbered(event(EventKind.START_FAILED, fix="Take a larger disk.")))
    assert (notice.id, notice.title) == ("diogenes-prod-000000000001", "[diogenes-prod] a start failed")
    assert notice.text == "2026-11-19 00:00 UTC: It is told of start-failed.\nTake a larger disk."
    told = notice.to_dict()
    assert told["text"] == told["content"] == f"{notice.title}\n\n{notice.text}"
    (only,) = told["events"]
    assert (only["id"], only["kind"], only["model"], only["node"]) == ("000000000001", "start-failed", "org/m", "i-1")
    assert (only["fix"], only["data"]) == ("Take a larger disk.", {"fix": "Take a larger disk."})


def test_what_an_engine_said_is_no_call_and_no_link_in_a_chat() -> None:
    said = event(EventKind.START_FAILED, fix="Ask <!channel> & see <https://evil.example|here>.")
    told = Notice("d", numbered(said)).to_dict()
    assert "Ask &lt;!channel&gt; &amp; see &lt;https://evil.example|here&gt;." in told["text"]
    assert not set("<>") & set(told["text"])
    assert told["allowed_mentions"] == {"parse": []}  # Discord's way; its text is as it was said
    assert "<!channel>" in told["content"]


def test_many_events_are_one_notice_that_fits_into_a_mail_and_a_chat() -> None:
    many = numbered(*(failed(code=f"code-{number}") for number in range(60)))
    notice = Notice("a" * 24, many)
    assert notice.id == f"{'a' * 24}-{60:012d}"
    assert notice.title.endswith("a start failed (and 59 more)")
    assert re.fullmatch(r"[!-~][ -~]{0,98}", notice.title)  # what SNS takes for a subject
    assert notice.text.count("It is told of") == MAX_LISTED
    assert "And 40 more" in notice.text
    assert len(notice.to_dict()["content"]) == MAX_CONTENT_CHARS
    assert len(notice.to_dict()["events"]) == 60


def test_no_headline_is_too_long_for_a_subject() -> None:
    for kind in EventKind:
        title = Notice("a" * 24, numbered(*[event(kind, "janitor", permanent=True)] * 1000)).title
        assert len(title) < 100
        assert title.isascii()


# -- the same trouble again


def test_the_same_failure_of_the_same_model_is_sent_again_after_hours_only() -> None:
    entries = numbered(failed(AT), failed(AT + 60), failed(AT + 60, code="boot_too_slow"), failed(AT + AGAIN_S))
    found, told = worth(entries, {}, at=AT + AGAIN_S)
    assert [entry.number for entry in found] == [1, 3]  # gathered at once, all four are news of the same hours
    later, _ = worth([Entry(5, failed(AT + AGAIN_S + 61))], told, at=AT + AGAIN_S + 61)
    assert [entry.number for entry in later] == [5]


def test_a_state_of_a_budget_that_was_raised_is_sent_again() -> None:
    def warned(limit: int) -> Event:
        return event(EventKind.BUDGET_WARNED, at=AT, month="2026-11", scope="deployment", limit=limit)

    found, told = worth(numbered(warned(100), warned(200)), {}, at=AT)
    assert [entry.number for entry in found] == [1, 2]
    assert worth([Entry(3, warned(200))], told, at=AT)[0] == []


def test_a_state_of_a_budget_is_sent_once_a_month_and_each_for_itself() -> None:
    def warned(month: str, scope: str = "deployment", at: float = AT) -> Event:
        return event(EventKind.BUDGET_WARNED, at=at, month=month, scope=scope)

    found, told = worth(numbered(warned("2026-11"), warned("2026-11"), warned("2026-11", "user:a@b.c")), {}, at=AT)
    assert [entry.number for entry in found] == [1, 3]
    found, _ = worth(
        [Entry(4, warned("2026-11", at=AT + 86400)), Entry(5, warned("2026-12", at=AT + 86400))], told, at=AT + 86400
    )
    assert [entry.number for entry in found] == [5]
    assert worth([], told, at=AT + MONTH_S + 1)[1] == {}


def test_every_repaired_leak_is_news() -> None:
    leaks = numbered(*[event(EventKind.NODE_ADOPTED)] * 3)
    assert worth(leaks, {}, at=AT) == (leaks, {})


@pytest.mark.parametrize(("age_s", "sent"), [(FRESH_S - 1, 1), (FRESH_S, 0)])
def test_what_happened_long_ago_is_no_news(age_s: float, sent: int) -> None:
    assert len(worth(numbered(failed(AT - age_s)), {}, at=AT)[0]) == sent
