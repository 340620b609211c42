"""The chat at a desk where everything sleeps: a question is kept, sent once, and answered."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.desk.sleep import asleep
from tests.desk.story import Story
from tests.web.browser import ANSWERED_MS, PHONE, answered, ask, said, seated, sign_in, sse
from tests.web.conftest import GATED, NO_QUOTA, UNLUCKY

pytestmark = [pytest.mark.desk, pytest.mark.timeout(180)]


async def test_from_all_asleep_to_the_answer_and_asleep_again(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.tab("/")
        await expect(page).to_have_title("Sign in · Diogenes")
        await sign_in(page)
        await expect(page.get_by_text("The jar is quiet.")).to_be_visible()
        assert not story.desk.front.service.tasks, "looking at the page woke something"
        await ask(page, "What is a pithos?", "first")
        await expect(page.get_by_role("heading", name="Waking first")).to_be_visible(timeout=20_000)
        await expect(page).to_have_title(re.compile(r"◐ \d+ % Diogenes"))
        await page.locator(".start-steps summary").click()
        await expect(page.get_by_role("listitem").filter(has_text="Warming up")).to_be_visible()
        await answered(page)
        assert len(seat.questions) == 1
        await expect(page.locator(".figures")).to_contain_text(re.compile(r"tok/s · first after .* tokens"))
        await page.get_by_role("link", name="Models").click()
        card = page.get_by_role("article", name="first")
        await expect(card).to_contain_text("sleeps in", timeout=15_000)
        await expect(card).to_contain_text("asleep", timeout=40_000)
        await asleep(story)
        await expect(page.get_by_text("Nothing runs; nothing costs.")).to_be_visible(timeout=40_000)


async def test_a_reload_in_the_middle_of_the_start_loses_nothing(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await ask(page, "Still there?", "reloaded")
        await expect(page.get_by_role("heading", name="Waking reloaded")).to_be_visible(timeout=20_000)
        await page.reload()
        await expect(page.get_by_role("article", name="You")).to_contain_text("Still there?")
        await answered(page)
        assert len(seat.questions) == 1


async def test_of_two_tabs_one_sends_and_both_show_the_answer(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await ask(page, "Who of you asks?", "shared")
        await expect(page).to_have_url(re.compile("/chat/.+"))
        other = await seat.tab(page.url.removeprefix(seat.url))
        third = await seat.tab("/models")
        await answered(page)
        await answered(other)
        assert len(seat.questions) == 1
        await third.close()


async def test_what_is_asked_offline_is_sent_when_one_is_back(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await seat.context.set_offline(True)
        await ask(page, "Anybody?", "offline")
        await expect(page.get_by_text("You seem to be offline")).to_be_visible(timeout=20_000)
        await seat.context.set_offline(False)
        await answered(page)
        await expect(page.get_by_text("You seem to be offline")).to_be_hidden()


async def test_a_session_that_ends_loses_neither_draft_nor_question(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await seat.context.clear_cookies()
        await ask(page, "Do you know me?", "ended")
        await page.get_by_label("Message", exact=True).fill("and this draft")
        await expect(page.get_by_text("Your session has ended.")).to_be_visible(timeout=40_000)
        await sign_in(page)
        await expect(page.get_by_label("Message", exact=True)).to_have_value("and this draft")
        await answered(page)
        assert len(seat.questions) == 1


async def test_no_capacity_is_told_with_what_can_be_done(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await ask(page, "Any GPU?", UNLUCKY)
        await expect(page.locator(".failure-message")).to_contain_text("g5.xlarge", timeout=ANSWERED_MS)
        await expect(page.get_by_text("You pay nothing meanwhile.")).to_be_visible()
        await expect(page.get_by_text(re.compile(r"Next try \d\d:\d\d"))).to_be_visible()
        await page.get_by_role("button", name="Stop trying").click()
        await expect(page.get_by_text("Not sent.")).to_be_visible()
        assert seat.questions == []


async def test_what_only_a_person_can_mend_is_told_with_its_remedy(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        gated = await seat.signed_in()
        await ask(gated, "May I?", GATED)
        quota = await seat.tab("/chat")
        await ask(quota, "How many?", NO_QUOTA)

        await expect(quota.locator(".failure-message")).to_contain_text("quota", timeout=ANSWERED_MS)
        await expect(quota.locator(".failure-message")).to_contain_text("too small for g5.xlarge")
        await expect(quota.locator(".failure-detail")).to_contain_text("VcpuLimitExceeded")
        page = quota.get_by_role("link", name="Open the quota page")
        await expect(page).to_have_attribute("href", re.compile(r"^https://.*servicequotas.*/L-DB2E81BA$"))
        assert "https://" not in await quota.locator(".failure").inner_text()  # it is behind the button

        await expect(gated.locator(".failure-message")).to_contain_text("The model is gated", timeout=ANSWERED_MS)
        terms = gated.get_by_role("link", name=re.compile("Open the model.s page"))
        await expect(terms).to_have_attribute("href", f"https://huggingface.co/{GATED}")
        await expect(gated.get_by_role("link", name="Open your tokens")).to_be_visible()
        await expect(gated.locator(".failure .command")).to_contain_text("pulumi config set --secret hfToken")

        for page_of in (quota, gated):  # it is not tried again by itself, and nothing is lost
            await expect(page_of.get_by_role("button", name="Send again", exact=True)).to_be_visible()
            await expect(page_of.get_by_label("Model", exact=True)).to_contain_text("cannot start")
        assert seat.questions == []


async def test_a_start_can_be_cancelled_and_the_question_stays(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await ask(page, "Never mind", "cancelled")
        await page.get_by_role("button", name="Cancel").click(timeout=20_000)
        await expect(page.get_by_role("dialog")).to_contain_text("AWS bills at least 60 s")
        await page.get_by_role("button", name="Stop it").click()
        await expect(page.get_by_text("Not sent.")).to_be_visible()
        await expect(page.get_by_role("button", name="Send again", exact=True)).to_be_visible()
        assert seat.questions == []


async def test_branches_stop_and_history_on_a_phone(story: Story) -> None:
    async with seated(story.desk.web_url, size=PHONE, has_touch=True, is_mobile=True) as seat:
        page = await seat.signed_in()
        await page.get_by_label("Model", exact=True).select_option("small")
        await page.get_by_label("Message", exact=True).fill("One [[tokens=30 gap=0.02]]")
        await page.get_by_role("button", name="Send", exact=True).click()
        await answered(page)
        await page.get_by_role("button", name="Answer again").click()
        await expect(page.get_by_text("2/2")).to_be_visible(timeout=20_000)
        await answered(page)
        await page.get_by_role("button", name="Earlier version").click()
        await expect(page.get_by_text("1/2")).to_be_visible()

        await page.get_by_role("button", name="Edit and send again").click()
        await page.get_by_label("Edit message").fill("Two [[tokens=2000 gap=0.05]]")
        await page.get_by_role("button", name="Send again", exact=True).click()
        await expect(page.get_by_text("Two [[tokens=2000 gap=0.05]]")).to_be_visible()
        coming = page.locator(".answered[aria-busy=true] .markdown")  # the earlier answer is not
        await expect(coming).to_contain_text("stand-in", timeout=ANSWERED_MS)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_text("Stopped.")).to_be_visible()

        await page.get_by_role("button", name="Chats").click()
        await page.get_by_label(re.compile("More about One")).click()
        await page.get_by_role("button", name="Rename").click()
        await page.get_by_role("textbox", name="Name").fill("Jars")
        await page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        await expect(page.get_by_role("link", name="Jars")).to_be_visible()
        await page.get_by_label("Search chats").fill("2000")
        await expect(page.get_by_role("link", name="Jars")).to_be_visible()
        await page.get_by_label("Search chats").fill("nowhere to be found")
        await expect(page.get_by_role("link", name="Jars")).to_be_hidden()
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE[0], "the page can be pushed sideways"


async def test_a_chat_that_is_deleted_ends_its_answer_and_a_file_brings_it_back(story: Story, tmp_path: Path) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        await ask(page, "Short [[tokens=9]]", "small")
        await answered(page)
        kept = tmp_path / "chats.json"
        settings = await seat.tab("/settings")
        async with settings.expect_download() as file:
            await settings.get_by_role("button", name="Export").click()
        await (await file.value).save_as(kept)

        await ask(page, "Long [[tokens=4000 gap=0.05]]")
        coming = page.locator(".answered[aria-busy=true] .markdown")
        await expect(coming).to_contain_text("stand-in", timeout=ANSWERED_MS)
        await page.get_by_label("More about Short").click()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page).to_have_url(seat.url + "/chat")
        await expect(page.get_by_text("No chats yet.")).to_be_visible()
        await until_idle(story, "small")
        await page.reload()
        await expect(page.get_by_text("No chats yet.")).to_be_visible()  # what still came did not bring it back

        file_of_chats = settings.get_by_label("File of chats")
        await file_of_chats.set_input_files({"name": "x.json", "mimeType": "application/json", "buffer": b"{]"})
        await expect(settings.get_by_text("This file is not JSON.")).to_be_visible()
        await file_of_chats.set_input_files(kept)
        await expect(settings.get_by_text("Imported 1 chat.")).to_be_visible()
        await file_of_chats.set_input_files(kept)
        await expect(settings.get_by_text("Imported 0 chats; 1 chat already here.")).to_be_visible()
        await page.get_by_role("link", name="Short").click()
        await answered(page)
        await expect(page.get_by_text("Long [[tokens")).to_be_hidden()  # it was asked after the export
        assert len(seat.questions) == 2


async def until_idle(story: Story, model: str) -> None:
    """Nobody pays for words that nobody reads: the model's machines are at work on nothing, or gone."""
    for _ in range(300):
        if not any(each["running_requests"] for each in (await story.status(model))["instances"]):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{model} goes on answering")


ANSWER = """It costs $5, or $7 at most, but $x^2$ is \\(x\\) squared:

$$
\\int_0^1 x\\,dx = \\frac12
$$

```python
def f(x):
    return x ** 2  # <script>
```

| a | b |
|---|---|
| 1 | 2 |

![pixel](https://elsewhere.example/p.png?secret) <img src=x onerror=alert(1)>
"""


async def test_code_tables_and_formulas_are_shown_and_nothing_calls_out(story: Story) -> None:
    async with seated(story.desk.web_url) as seat:
        page = await seat.signed_in()
        elsewhere: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url) if seat.url not in request.url else None)
        chunks = [said("", reasoning="Let me think.")] + [said(ANSWER[i : i + 7]) for i in range(0, len(ANSWER), 7)]
        await page.route("**/v1/chat/completions", lambda route: route.fulfill(body=sse(*chunks)))
        await ask(page, "Show me all of it", "small")
        await expect(page.locator(".katex")).to_have_count(3, timeout=ANSWERED_MS)
        await expect(page.locator(".markdown").last).to_contain_text("It costs $5, or $7 at most")
        await expect(page.locator(".code .tone").first).to_be_visible()
        await expect(page.get_by_role("cell", name="2")).to_be_visible()
        await expect(page.get_by_role("link", name="pixel")).to_be_visible()
        await page.get_by_text(re.compile("^Thought")).click()
        await expect(page.get_by_text("Let me think.")).to_be_visible()
        assert await page.locator(".markdown img, .markdown script").count() == 0
        assert elsewhere == []
