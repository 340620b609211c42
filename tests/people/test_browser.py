"""A real browser and a real OpenID Connect provider, at a deployment that sleeps and shall go on sleeping.

The page is the smallest that can sign in: what the web app does with the same answers is told in its own tests.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Route, sync_playwright

from control_plane.schema import CALLBACK_PATH
from rehearsal import stack
from rehearsal.account import REGION
from rehearsal.desk import Desk, FrontOptions, Options
from tests.people.oidc_provider import OidcProvider, provider_missing

pytestmark = [
    pytest.mark.desk,
    pytest.mark.skipif(bool(provider_missing()), reason=provider_missing()),
    pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium is installed: the real browser did NOT run"),
]

PAGE = "<!doctype html><title>Diogenes</title><p>A page of ours."

CALL = """async ([method, path, body, headers]) => {
  const reply = await fetch(path, {
    method, headers: {"content-type": "application/json", ...headers}, body: body && JSON.stringify(body)
  });
  const text = await reply.text();
  return [reply.status, text ? JSON.parse(text) : null];
}"""

EAGER = {"DIOGENES_ISSUER_AGAIN_S": "0.1"}
CSRF = {"x-diogenes-csrf": "1"}


def _ours(route: Route) -> None:
    """A page of ours, and nothing that runs on it: where the provider sends the browser, it would load the built web
    app, which finishes the sign-in by itself."""
    match route.request.resource_type:
        case "document":
            route.fulfill(body=PAGE, content_type="text/html")
        case "script":
            route.abort()
        case _:
            route.continue_()


@dataclass
class Visitor:
    """Somebody with a browser of their own; their tabs share its cookies."""

    context: BrowserContext
    desk: Desk
    provider: OidcProvider

    def tab(self) -> Page:
        page = self.context.new_page()
        page.route(f"{self.desk.web_url}**", _ours)
        page.goto(f"{self.desk.web_url}models")
        return page

    def call(self, page: Page, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any]:
        """As the page's own script asks: with its cookies, its origin, its rules."""
        status, told = page.evaluate(CALL, [method, path, body, headers or {}])
        return status, told

    def begin(self, page: Page) -> str:
        status, told = self.call(page, "POST", "/api/session/start", {"provider": "desk", "return_to": "/models"})
        assert status == 200, told
        return str(told["authorize_url"])

    def at_provider(self, page: Page, url: str, email: str) -> dict[str, str]:
        """Signs in there, and returns what the provider sends the browser back with."""
        page.goto(url)
        if page.locator("input[name=login]").count():
            page.fill("input[name=login]", email)
            page.fill("input[name=password]", "any")
            page.click("button[type=submit]")
            page.locator("input[name=login]").wait_for(state="detached")  # else the next click is one more of this
        if page.url.startswith(self.provider.url):
            page.click("button[type=submit]")  # "Continue": what the application may see
        page.wait_for_url(re.compile(re.escape(f"{self.desk.web_url.rstrip('/')}{CALLBACK_PATH}")))
        return dict(parse_qsl(urlsplit(page.url).fragment))

    def sign_in(self, page: Page, email: str, **changed: str) -> tuple[int, Any]:
        """With the question to the provider changed on the way, as by somebody in the middle."""
        url = urlsplit(self.begin(page))
        asked = {**dict(parse_qsl(url.query)), **changed}
        back = self.at_provider(page, url._replace(query=urlencode(asked)).geturl(), email)
        return self.call(page, "POST", "/api/session", {"state": back["state"], "id_token": back["id_token"]})


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    models = [{"name": "browser/model", "instanceTypes": ["g5.xlarge"]}]
    with Desk(
        Options(boot_seconds=0.2, load_seconds=0.2, models=models, front=FrontOptions(), environment=EAGER)
    ) as desk:
        yield desk


@pytest.fixture(scope="module")
def provider(desk: Desk) -> Iterator[OidcProvider]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    origin = desk.web_url.rstrip("/")
    with OidcProvider(port, redirect_uri=origin + CALLBACK_PATH) as provider:
        told = {"issuer": provider.url, "web_url": origin}
        stack.point_sign_in(desk.aws_url, region=REGION, namespace=desk.namespace, **told)
        yield provider


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    def launched(playwright: Playwright) -> Browser:
        path = shutil.which("chromium")
        return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])

    with sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@pytest.fixture
def visitor(desk: Desk, provider: OidcProvider, chromium: Browser) -> Iterator[Visitor]:
    with chromium.new_context() as context:
        context.set_default_timeout(30_000)
        yield Visitor(context, desk, provider)
    assert desk.front.service.targets() == []  # whatever anybody tried, nothing was woken
    assert desk.instances() == {}


def refused(answer: tuple[int, Any]) -> tuple[int, str]:
    status, told = answer
    return status, told["error"]["code"]


def test_somebody_signs_in_looks_around_and_signs_out_in_both_tabs(visitor: Visitor) -> None:
    page = visitor.tab()
    url = visitor.begin(page)
    back = visitor.at_provider(page, url, stack.OWNER)
    answer = {"state": back["state"], "id_token": back["id_token"]}
    status, told = visitor.call(page, "POST", "/api/session", answer)
    assert (status, told["email"], told["owner"], told["return_to"]) == (201, stack.OWNER, True, "/models")
    assert page.evaluate("document.cookie") == ""  # not for scripts
    assert refused(visitor.call(page, "POST", "/api/session", answer)) == (401, "invalid_state")  # used already

    other = visitor.tab()
    for tab in (page, other):
        assert visitor.call(tab, "GET", "/api/session")[0] == 200
        assert visitor.call(tab, "GET", "/v1/models")[0] == 200
    assert refused(visitor.call(page, "POST", "/api/keys", {"name": "k"})) == (403, "csrf_failed")
    status, made = visitor.call(page, "POST", "/api/keys", {"name": "k"}, CSRF)
    assert (status, made["email"]) == (201, stack.OWNER)

    assert visitor.call(page, "DELETE", "/api/session", None, CSRF) == (204, None)
    for tab in (page, other):
        assert refused(visitor.call(tab, "GET", "/api/session")) == (401, "missing_api_key")


@pytest.mark.parametrize(
    ("email", "changed", "refusal"),
    [
        ("eve@elsewhere.org", {}, (403, "not_on_allowlist")),
        ("unverified@example.com", {}, (401, "email_not_verified")),
        ("late@example.com", {}, (401, "token_expired")),
        (stack.OWNER, {"client_id": "another-application"}, (401, "wrong_audience")),
        (stack.OWNER, {"nonce": "somebody-elses"}, (401, "wrong_nonce")),
    ],
)
def test_who_does_not_belong_here_stays_outside(
    visitor: Visitor, email: str, changed: dict[str, str], refusal: tuple[int, str]
) -> None:
    page = visitor.tab()
    assert refused(visitor.sign_in(page, email, **changed)) == refusal
    assert refused(visitor.call(page, "GET", "/api/session")) == (401, "missing_api_key")


def test_a_state_that_another_browser_began_is_refused(visitor: Visitor, chromium: Browser) -> None:
    begun_elsewhere = visitor.begin(visitor.tab())
    with chromium.new_context() as context:
        other = Visitor(context, visitor.desk, visitor.provider)
        page = other.tab()
        back = other.at_provider(page, begun_elsewhere, stack.OWNER)
        answer = {"state": back["state"], "id_token": back["id_token"]}
        assert refused(other.call(page, "POST", "/api/session", answer)) == (401, "invalid_state")


def test_keys_that_the_provider_rotates_are_followed(visitor: Visitor) -> None:
    before = visitor.sign_in(visitor.tab(), stack.OWNER)
    assert before[0] == 201, before
    visitor.provider.restart()  # with another key, which nobody here has seen
    again = visitor.sign_in(visitor.tab(), stack.OWNER)
    assert again[0] == 201, again


def test_a_bearer_token_of_the_provider_opens_the_door_too(visitor: Visitor) -> None:
    page = visitor.tab()
    back = visitor.at_provider(page, visitor.begin(page), stack.OWNER)
    bearer = {"authorization": f"Bearer {back['id_token']}"}
    status, told = visitor.call(page, "GET", "/api/session", None, bearer)
    assert (status, told["email"], told["expires_at"]) == (200, stack.OWNER, None)
