"""A browser at a desk, as somebody sits in front of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Response, async_playwright, expect

from web.site import is_built

CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")  # root, in a container
ANSWERED_MS = 60_000.0
expect.set_options(timeout=30_000)  # a function that starts on a busy machine takes seconds
DESKTOP, PHONE = (1200, 800), (390, 844)

# What a page may say on the console: the browser's own word for an answer that is no 200.
_HARMLESS = ("Failed to load resource",)


def browser_missing() -> str:
    """Why no page can be looked at here; empty where one can."""
    if CHROMIUM is None:
        return "no chromium is installed: the web app was NOT looked at"
    if not is_built():
        return "the web app is not built (`make web`): it was NOT looked at"
    return ""


@dataclass
class Seat:
    """One browser profile: its tabs share cookies and storage."""

    context: BrowserContext
    url: str
    questions: list[str] = field(default_factory=list)  # those of all tabs that were answered, by address
    complaints: list[str] = field(default_factory=list)  # of pages: errors, and what their policy forbade

    async def tab(self, path: str = "/") -> Page:
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await page.goto(self.url + path)
        return page

    async def signed_in(self, path: str = "/chat") -> Page:
        """A tab at ``path``, by the way that a person takes."""
        page = await self.tab(path)
        await sign_in(page)
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_HARMLESS):
            self.complaints.append(message.text)

    def _answered(self, response: Response) -> None:
        if response.status == 200 and response.url.endswith("/v1/chat/completions"):
            self.questions.append(response.url)


@asynccontextmanager
async def seated(
    url: str, *, size: tuple[int, int] = DESKTOP, theme: Any = "light", **more: Any
) -> AsyncIterator[Seat]:
    """A fresh profile; in the end, no page may have complained."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = await browser.new_context(
                viewport={"width": size[0], "height": size[1]}, color_scheme=theme, reduced_motion="reduce", **more
            )
            context.set_default_timeout(30_000)
            seat = Seat(context, url.rstrip("/"))
            context.on("console", seat._said)
            context.on("response", seat._answered)
            yield seat
            assert seat.complaints == []
        finally:
            await browser.close()


async def sign_in(page: Page, email: str = "") -> None:
    """From the sign-in page, or the banner that says that a session has ended, to where one was."""
    await page.get_by_role("button", name="Sign in").first.click()
    if email:
        await page.get_by_label("Address").fill(email)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def ask(page: Page, question: str, model: str = "") -> None:
    if model:
        await page.get_by_label("Model", exact=True).select_option(model)
    box = page.get_by_label("Message", exact=True)
    await box.fill(question)
    await box.press("Enter")
    await expect(page.get_by_role("article", name="You").last).to_contain_text(question)


async def answered(page: Page, many: int = 1) -> None:
    """The stand-in's words, complete, so many times."""
    figures = page.locator(".answered .figures")
    await expect(figures).to_have_count(many, timeout=ANSWERED_MS)
    await expect(page.locator(".answered .markdown").last).to_contain_text("stand-in")


def sse(*chunks: Mapping[str, Any]) -> str:
    """An engine's stream of these, with its end."""
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def said(text: str, **delta: str) -> Mapping[str, Any]:
    """One chunk of an answer."""
    return {"choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": None}]}
