"""The other pages: what they show, what they change, and whether everybody can use them."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from tests.desk.story import Story, until
from tests.web.browser import DESKTOP, PHONE, Seat, ask, seated, sign_in
from tests.web.conftest import SECOND, UNLUCKY
from web.site import HOME

pytestmark = [pytest.mark.desk, pytest.mark.timeout(180)]

AXE = HOME / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("/chat", "/models", "/models/sized", "/usage", "/keys", "/events", "/settings")


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


async def test_a_model_is_edited_differs_from_pulumi_and_goes_back(story: Story) -> None:
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
        await expect(page.get_by_label("Check")).to_contain_text(re.compile(r"6 s → 15 min"))
        assert (await story.status("first"))["override"] == {"idleTimeout": 900}

        await page.get_by_label("Instance types").fill("g5.xlarge\ng6.xlarge")
        await expect(page.get_by_label("Check")).to_contain_text(
            'pulumi config set --path "diogenes:models[$N].instanceTypes[1]" g6.xlarge'
        )
        await page.get_by_role("button", name=re.compile("^Back to Pulumi.s Idle timeout")).click()
        await expect(page.get_by_role("heading", name="Differs from Pulumi")).to_be_hidden()
        assert (await story.status("first"))["override"] == {}


async def test_a_configuration_is_judged_before_it_is_saved(story: Story) -> None:
    async with seated(story.desk.web_url, timezone_id="Europe/Berlin") as seat:
        page = await seat.signed_in("/models/sized")
        told = page.get_by_label("Check")
        await expect(told.get_by_role("heading", name="g5.xlarge")).to_contain_text(
            re.compile(r"1 . A10G · \$1\.\d+/h")
        )
        await expect(told).to_contain_text("Fits.")
        await expect(told).to_contain_text("AWS must allow 4 vCPUs")
        await page.get_by_label("vLLM arguments").fill("--max-model-len 131072")
        await expect(told).to_contain_text("Does not fit.")
        await told.get_by_role("button", name="Take it first").click()
        await expect(told.get_by_role("heading", name="g6e.xlarge")).to_be_visible()
        await expect(told).to_contain_text(
            re.compile(r"KV cache has room for [\d.]+k tokens: 1\.\d requests of 131k at once")
        )
        await expect(told).to_contain_text('"diogenes:models[$N].instanceTypes[0]" g6e.xlarge')

        await page.get_by_role("button", name="Add warm hours").click()
        hours = page.get_by_role("group", name="window 1")
        await hours.get_by_label("Days").select_option("by a cron line")
        await hours.get_by_label("Cron line").fill("0 9 * *")
        await expect(page.get_by_text("A cron line has five fields")).to_be_visible()
        await hours.get_by_label("Cron line").fill("0 9 29 2 *")  # long until then
        await page.get_by_label("vLLM arguments").fill("--max-model-len 8192")
        await page.get_by_role("button", name="Save").click()
        await expect(told).to_contain_text("Warm hours: none → at “0 9 29 2 *” for 8 hours (Europe/Berlin)")
        warm = [{"cron": "0 9 29 2 *", "minutes": 480, "zone": "Europe/Berlin"}]
        assert (await story.status("sized"))["override"] == {"warmHours": warm}
        await page.get_by_role("link", name="All models").click()
        card = page.get_by_role("article", name="sized")
        await expect(card).to_contain_text("Warm at “0 9 29 2 *” for 8 hours (Europe/Berlin)")
        await expect(card).to_contain_text("/h while on")


async def test_a_stranger_is_told_so_and_the_owner_lets_them_in_and_sees_their_key(story: Story) -> None:
    stranger = f"friend-{secrets.token_hex(3)}@example.org"  # whom a first try let in is none in a second
    async with seated(story.desk.web_url) as owner, seated(story.desk.web_url) as friend:
        page = await friend.tab("/")
        await sign_in(page, stranger)
        await expect(page.get_by_role("alert")).to_be_visible()
        theirs = await owner.signed_in("/settings")
        await theirs.get_by_label("Add an email").fill(stranger)
        await theirs.get_by_role("button", name="Allow", exact=True).click()
        await expect(theirs.get_by_role("button", name=f"Remove {stranger}")).to_be_visible()
        await page.goto(friend.url + "/keys")
        await sign_in(page, stranger)
        await page.get_by_role("button", name="New key").click()
        await page.get_by_role("textbox", name="Name").fill("a friend's script")
        await page.get_by_label("Dollars a month").fill("2")
        saved = page.get_by_role("button", name="I saved it")
        await insist(page.get_by_role("button", name="Make the key"), saved)
        await saved.click()
        await expect(page.get_by_role("meter", name="Spent of the budget of a friend's script")).to_be_visible()
        await expect(page.get_by_label("Everybody")).to_be_hidden()

        keys = await owner.tab("/keys")
        await expect(keys.get_by_role("button", name="Revoke rehearsal")).to_be_visible()
        await expect(keys.get_by_role("heading", name="a friend's script")).to_be_hidden()
        await keys.get_by_label("Everybody").check()
        key = keys.get_by_role("listitem").filter(has_text="a friend's script")
        await expect(key).to_contain_text(stranger)
        await expect(key).to_contain_text("$0.00 of $2.00 this month")
        await key.get_by_role("button", name="Revoke").click()
        await expect(keys.get_by_role("dialog")).to_contain_text(f"It is {stranger}")
        await keys.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(key).to_be_hidden()
        await theirs.get_by_role("button", name=f"Remove {stranger}").click()
        await expect(theirs.get_by_role("button", name=f"Remove {stranger}")).to_be_hidden()


async def insist(button: Locator, outcome: Locator) -> None:
    """Press until it works: whom the owner has just let in, some process may not know for a minute."""
    async with asyncio.timeout(90):
        while not await outcome.is_visible():
            await expect(button.or_(outcome)).to_be_enabled()
            if await button.is_visible():
                await button.click()
            await asyncio.sleep(1)


async def test_whoever_signs_in_next_on_the_same_browser_sees_nothing_of_the_first(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await ask(page, "My secret question", UNLUCKY)
        await expect(page).to_have_url(re.compile("/chat/.+"))
        await page.get_by_label("Message", exact=True).fill("my secret draft")
        other = await seat.tab(page.url.removeprefix(seat.url))  # it stays open while another person comes
        await expect(other.get_by_role("article", name="You")).to_contain_text("My secret question")

        await page.get_by_role("link", name="Settings").click()
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(page.get_by_role("button", name="Sign in with Desk")).to_be_visible()
        await sign_in(page, SECOND)
        await expect(page.get_by_text(SECOND)).to_be_visible()
        await expect(page.get_by_text("No chats yet.")).to_be_visible()
        await expect(other.get_by_text(SECOND)).to_be_visible()
        await expect(other.get_by_text("This chat is not in this browser.")).to_be_visible()
        for tab in (page, other):
            assert "secret" not in await tab.content()
            assert "secret" not in await tab.title()
        await expect(page.get_by_label("Message", exact=True)).to_have_value("")

        await page.get_by_role("link", name="Settings").click()
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(page.get_by_role("button", name="Sign in with Desk")).to_be_visible()
        await sign_in(page)
        await page.get_by_role("navigation", name="Chats").get_by_role("link", name="My secret question").click()
        await expect(page.get_by_label("Message", exact=True)).to_have_value("my secret draft")
        await page.get_by_role("button", name=re.compile("^(Stop|Stop trying)$")).first.click()
        assert seat.questions == []


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


async def test_the_owner_sets_what_a_month_may_cost(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/usage")
        budgets = page.get_by_label("Budgets of this month")
        await expect(budgets).to_contain_text("Everything")
        await page.get_by_role("button", name="Change Starts ahead of a question").click()
        dollars = page.get_by_label("Dollars a month")
        await dollars.fill("none")
        await expect(page.get_by_role("button", name="Set", exact=True)).to_be_disabled()
        await dollars.fill("3")
        await page.get_by_role("button", name="Set", exact=True).click()
        await expect(budgets).to_contain_text("of $3.00")
        await page.get_by_role("button", name="Change Starts ahead of a question").click()
        await page.get_by_role("button", name="Back to what is configured").click()
        await expect(budgets).to_contain_text("of $5.00")


async def test_everything_can_be_done_with_the_keyboard_alone(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in("/chat")
        await go(
            seat, page, "/models"
        )  # the focus begins at the page's beginning, where the chat puts it into the message
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
        await tab_to(page, page.get_by_role("link", name="Keys"))
        await page.keyboard.press("Enter")
        await tab_to(page, page.get_by_role("button", name="New key"))
        await page.keyboard.press("Enter")
        await tab_to(page, page.get_by_role("textbox", name="Name"))
        await page.keyboard.type("by hand")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(page.get_by_role("button", name="New key")).to_be_focused()
        await page.keyboard.press("Enter")
        await tab_to(page, page.get_by_role("textbox", name="Name"))
        await page.keyboard.type("by hand")
        await page.keyboard.press("Enter")
        await tab_to(page, page.get_by_role("button", name="I saved it"))
        await page.keyboard.press("Enter")
        await tab_to(page, page.get_by_role("button", name="Revoke by hand"))
        await page.keyboard.press("Enter")
        await tab_to(page, page.get_by_role("dialog").get_by_role("button", name="Revoke"))
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="by hand")).to_be_hidden()
        await page.keyboard.press("Control+k")
        await tab_to(page, page.get_by_label("Message", exact=True))
        await page.keyboard.type("kept")
        await expect(page.get_by_label("Message", exact=True)).to_have_value("kept")


async def tab_to(page: Page, what: Locator) -> None:
    """By the Tab key alone; what it passes shows that it has the focus."""
    await expect(what).to_be_visible()
    for _ in range(60):
        if await what.evaluate("element => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(f"document.activeElement === document.body || {outline} !== 'none'")
    raise AssertionError(f"no Tab leads to {what}")


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
