"""The other pages: what they show, what they change, and whether everybody can use them."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.desk.story import Story, until
from tests.web.browser import DESKTOP, PHONE, Seat, seated, sign_in
from web.site import HOME

pytestmark = [pytest.mark.desk, pytest.mark.timeout(180)]

AXE = HOME / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("/chat", "/models", "/models/first", "/usage", "/keys", "/events", "/settings")


async def test_a_key_is_shown_once_and_ends_when_it_is_revoked(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/keys")
        await page.get_by_role("button", name="New key").click()
        await page.get_by_role("textbox", name="Name").fill("a script")
        await page.get_by_role("button", name="Make the key").click()
        key = await page.get_by_role("dialog").locator(".command code").inner_text()
        assert key.startswith("dio-")
        await expect(page.get_by_role("dialog")).to_contain_text("curl -N -L")
        await page.get_by_role("button", name="I saved it").click()
        await expect(page.get_by_role("heading", name="a script")).to_be_visible()
        assert key not in await page.content()

        assert _status(story, key) == 200
        await page.get_by_role("button", name="Revoke a script").click()
        await page.get_by_role("button", name="Revoke", exact=True).click()
        await expect(page.get_by_role("heading", name="a script")).to_be_hidden()
        await until(lambda: _status(story, key) == 401, "the key is refused")


def _status(story: Story, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{story.desk.base_url}/models", headers=headers, timeout=30, trust_env=False).status_code


async def test_a_model_is_edited_differs_from_pulumi_and_is_reset(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/models")
        await page.get_by_role("article", name="first").get_by_role("link", name="Edit").click()
        idle = page.get_by_label("Idle timeout, minutes")
        await idle.fill("never")
        await expect(page.get_by_text("Minutes, more than 0")).to_be_visible()
        await expect(page.get_by_role("button", name="Save")).to_be_disabled()
        await idle.fill("15")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="Differs from Pulumi")).to_be_visible()
        await expect(page.get_by_label("Check")).to_contain_text(re.compile(r"6 → 900"))
        assert (await story.status("first"))["override"] == {"idleTimeout": 900}

        await page.get_by_label("Instance types").fill("g5.xlarge\ng6.xlarge")
        await expect(page.get_by_label("Check")).to_contain_text(
            "pulumi config set --path 'diogenes:models[N].instanceTypes[1]' g6.xlarge"
        )
        await page.get_by_role("button", name="Reset Idle timeout").click()
        await expect(page.get_by_role("heading", name="Differs from Pulumi")).to_be_hidden()
        assert (await story.status("first"))["override"] == {}


async def test_a_stranger_is_told_so_and_the_owner_lets_them_in(story: Story) -> None:
    async with seated(story.desk.web_url) as owner, seated(story.desk.web_url) as friend:
        page = await friend.tab("/")
        await sign_in(page, "friend@example.org")
        await expect(page.get_by_role("alert")).to_be_visible()
        theirs = await owner.signed_in("/settings")
        await theirs.get_by_label("Add an email").fill("friend@example.org")
        await theirs.get_by_role("button", name="Allow", exact=True).click()
        await expect(theirs.get_by_role("button", name="Remove friend@example.org")).to_be_visible()
        await page.goto(friend.url)
        await sign_in(page, "friend@example.org")
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        await theirs.get_by_role("button", name="Remove friend@example.org").click()
        await expect(theirs.get_by_role("button", name="Remove friend@example.org")).to_be_hidden()


async def test_signing_out_reaches_the_other_tabs_and_keeps_the_chats(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/settings")
        other = await seat.tab("/models")
        await expect(other.get_by_role("article", name="first")).to_be_visible()
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(page.get_by_role("button", name="Sign in with Desk")).to_be_visible()
        await expect(other.get_by_role("button", name="Sign in with Desk")).to_be_visible()


async def test_what_happened_is_listed(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/models")
        await page.get_by_role("article", name="small").get_by_role("button", name="Wake").click()
        await expect(page.get_by_role("article", name="small")).to_contain_text("waking", timeout=20_000)
        await page.get_by_role("link", name="Events").click()
        await expect(page.get_by_role("log")).to_contain_text("launched", timeout=40_000)


async def test_what_was_used_adds_up(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/usage")
        await expect(page.get_by_text("days in")).to_be_visible()
        await expect(page.get_by_text("The rows do not add up")).to_be_hidden()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_everybody_can_use_every_page(story: Story, theme: str, size: tuple[int, int]) -> None:
    async with seated(story.desk.web_url, theme=theme, size=size) as seat:
        page = await seat.tab("/")
        await expect(page.get_by_role("button", name="Sign in with Desk")).to_be_visible()
        found = {"/signin": await violations(page)}
        await sign_in(page)
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        for path in PAGES:
            await go(seat, page, path)
            found[path] = await violations(page)
            assert await page.evaluate("document.documentElement.scrollWidth") <= size[0], f"{path} is too wide"
        assert {path: told for path, told in found.items() if told} == {}


async def go(seat: Seat, page: Page, path: str) -> None:
    await page.goto(seat.url + path)
    await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    await expect(page.locator(".loading")).to_have_count(0)


async def violations(page: Page) -> list[str]:
    """What axe finds wrong by WCAG 2.2 AA and by good practice."""
    await page.evaluate(AXE.read_text())  # no script tag: the page's policy would forbid it
    told: dict[str, Any] = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in told["violations"]
        for node in each["nodes"]
    ]
