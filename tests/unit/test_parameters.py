"""What `pulumi up` wrote into SSM, read back; and calls to providers, bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from control_plane import schema
from control_plane.errors import Unavailable
from control_plane.parameters import entrance
from control_plane.people import Flow
from control_plane.provider_web import MAX_BYTES, ProviderWeb

GOOD: Mapping[str, str] = {
    schema.ALLOWED_EMAILS: "Ann@Example.com,*@example.org",
    schema.OIDC_CLIENTS: json.dumps(
        [
            {"id": "google", "name": "Google", "issuer": "https://accounts.google.com", "clientId": "g"},
            {"id": "github", "name": "GitHub", "flow": "github", "clientId": "h", "tokenUrl": "https://github.com/t"},
        ]
    ),
    schema.SESSION_KEY: "s" * 64,
    schema.GITHUB_SECRET: "shh",
    schema.WEB_URL: "https://llm.example.org/",
}


def test_the_parameters_are_read() -> None:
    told = entrance(GOOD)
    assert told.allowed == ["ann@example.com", "*@example.org"]
    assert told.web_url == "https://llm.example.org"
    google, github = told.providers
    assert (google.flow, google.issuer, google.client_secret) == (Flow.OIDC, "https://accounts.google.com", "")
    assert (github.flow, github.token_url, github.client_secret) == (Flow.GITHUB, "https://github.com/t", "shh")
    assert "shh" not in repr(told)
    assert "sss" not in repr(told)


def test_an_odd_entry_admits_nobody_and_makes_nobody_the_owner() -> None:
    told = entrance({**GOOD, schema.ALLOWED_EMAILS: "not an address,bob@example.com"})
    assert told.allowed == ["", "bob@example.com"]


@pytest.mark.parametrize("missing", [schema.ALLOWED_EMAILS, schema.OIDC_CLIENTS, schema.SESSION_KEY])
def test_a_missing_parameter_lets_nobody_in(missing: str) -> None:
    with pytest.raises(Unavailable):
        entrance({name: value for name, value in GOOD.items() if name != missing})


@pytest.mark.parametrize(
    "clients", ["", "{", "7", '[{"id": "x"}]', '[{"id":"x","name":"X","clientId":"c","flow":"y"}]']
)
def test_clients_that_cannot_be_read_let_nobody_in(clients: str) -> None:
    with pytest.raises(Unavailable):
        entrance({**GOOD, schema.OIDC_CLIENTS: clients})


# -- calls to providers


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/good":
            return web.json_response({"asked": dict(request.headers), "form": dict(await request.post())})
        case "/away":
            raise web.HTTPFound("/good")
        case "/huge":
            return web.Response(body=b" " * (MAX_BYTES + 1), content_type="application/json")
        case "/text":
            return web.Response(text="<html>")
    return web.Response(status=500)


@pytest.fixture
async def server() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def desk() -> AsyncIterator[ProviderWeb]:
    async with aiohttp.ClientSession() as http:
        yield ProviderWeb(http, plain_http=True)


async def test_a_provider_is_asked_and_posted_to(server: str, desk: ProviderWeb) -> None:
    told: Any = await desk.get(f"{server}/good", bearer="abc")
    assert told["asked"]["Authorization"] == "Bearer abc"
    told = await desk.post(f"{server}/good", {"code": "x y"})
    assert told["form"] == {"code": "x y"}
    assert "Authorization" not in told["asked"]


@pytest.mark.parametrize("path", ["away", "huge", "text", "broken"])
async def test_what_a_provider_should_not_answer_is_no_answer(server: str, desk: ProviderWeb, path: str) -> None:
    with pytest.raises(Unavailable):
        await desk.get(f"{server}/{path}")


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/keys", "http://127.0.0.1.example.com/", "http://10.0.0.1/", "file:///etc/passwd"),
        *("http://169.254.169.254/latest", "ftp://127.0.0.1/", "", "//127.0.0.1/", "http://[::1", "127.0.0.1"),
    ],
)
async def test_other_addresses_are_not_even_tried(desk: ProviderWeb, url: str) -> None:
    with pytest.raises(Unavailable, match="not https"):
        await desk.get(url)


async def test_without_the_setting_loopback_wants_tls_too(server: str) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Unavailable, match="not https"):
            await ProviderWeb(http).get(f"{server}/good")


async def test_a_provider_that_is_not_there_is_unavailable(desk: ProviderWeb) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        await desk.get("http://127.0.0.1:9/keys")
