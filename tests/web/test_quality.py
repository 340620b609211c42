"""What a laboratory would find: what a page weighs, asks for, says, names, and whether it moves under the reader.

No time is measured here; how long a page takes is `python -m tests.bench.web`'s.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

import pytest
from playwright.async_api import Error, Page, Response, Route, expect

from tests.desk.story import Story
from tests.web.browser import PHONE, Seat, seated
from tests.web.conftest import MODELS
from tests.web.test_pages import PAGES, go

pytestmark = [pytest.mark.desk, pytest.mark.timeout(180)]

MOST_REQUESTS = 30 + len(MODELS)  # of one page, its data among them; the chart of usage asks once a model
MOST_BYTES = 560_000  # of scripts and styles, unpacked; packed they are a third: .size-limit.cjs
SHIFT = 0.1  # up to it Web Vitals call it good
LATE_S = {"cluster": 0.1, "by=day": 0.2, "by=key": 0.2, "by=owner": 0.3, "budgets": 0.4, "by=model": 0.5, "model=": 0.6}
"""What the server is asked for comes one after the other: whatever stands below must not be pushed away."""
SMALLEST_TAP = 24  # WCAG 2.2, 2.5.8

WATCH = """
  window.shift = 0;
  window.forbidden = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  document.addEventListener("securitypolicyviolation", (event) => {
    window.forbidden.push(event.violatedDirective + " " + event.blockedURI);
  });
"""
# What axe does not look at: the head, addresses of one origin only, targets large enough for a finger.
LOOK = """(smallest) => {
  const head = (selector) => document.head.querySelector(selector)?.content ?? "";
  const seen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const taps = [...document.querySelectorAll("button, a[href], select, input:not([type=hidden])")]
    .filter((element) => seen(element) && !element.closest("p, li, .visually-hidden, .skip, label"))
    .map((element) => [element.getBoundingClientRect(), element.outerHTML.slice(0, 120)]);
  const loaded = performance.getEntriesByType("resource");
  const parts = loaded.filter(({ initiatorType }) => /script|link|css/.test(initiatorType));
  return {
    title: document.title,
    language: document.documentElement.lang,
    viewport: head("meta[name=viewport]"),
    description: head("meta[name=description]"),
    headings: document.querySelectorAll("h1").length,
    landmarks: document.querySelectorAll("main").length,
    small: taps.filter(([box]) => Math.min(box.width, box.height) < smallest && box.width > 1).map(([, told]) => told),
    elsewhere: loaded.map(({ name }) => name).filter((name) => !name.startsWith(origin)),
    weight: parts.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
    shift: window.shift,
    forbidden: window.forbidden,
  };
}"""


async def test_every_page_is_light_calm_named_and_keeps_to_its_policy(story: Story) -> None:
    async with seated(story.desk.web_url, size=PHONE) as seat:
        await seat.context.add_init_script(WATCH)
        await seat.context.route(re.compile("/api/(usage|budgets|cluster$)"), late)
        page = await seat.signed_in("/chat")
        titles = set()
        for path in PAGES:
            told, answers = await look(seat, page, path)
            titles.add(told["title"])
            assert (told["language"], told["headings"], told["landmarks"]) == ("en", 1, 1), path
            assert "width=device-width" in told["viewport"]
            assert "user-scalable=no" not in told["viewport"]
            assert told["description"]
            assert (told["forbidden"], told["elsewhere"], told["small"]) == ([], [], []), path
            assert told["shift"] < SHIFT, path
            assert told["weight"] < MOST_BYTES, path
            assert len(answers) <= MOST_REQUESTS, f"{path}: {[answer.url for answer in answers]}"
            assert [answer.url for answer in answers if answer.status >= 400 and "/stream" not in answer.url] == []
            (document,) = (answer for answer in answers if answer.request.resource_type == "document")
            check_headers(document.headers)
        assert len(titles) == len(PAGES), "pages have titles of their own"


async def late(route: Route) -> None:
    await asyncio.sleep(max((seconds for part, seconds in LATE_S.items() if part in route.request.url), default=0.1))
    with suppress(Error):  # the page was left meanwhile
        await route.continue_()


async def look(seat: Seat, page: Page, path: str) -> tuple[dict[str, Any], list[Response]]:
    """What the page is, and all that it was answered."""
    answers: list[Response] = []

    def keep(answer: Response) -> None:
        answers.append(answer)

    page.on("response", keep)
    await go(seat, page, path)
    await expect(page.locator("h1")).to_have_count(1)
    told: dict[str, Any] = await page.evaluate(LOOK, SMALLEST_TAP)
    page.remove_listener("response", keep)
    return told, answers


def check_headers(headers: dict[str, str]) -> None:
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "referrer-policy" in headers
