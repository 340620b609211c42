"""A webhook gets a signed message, once asked for; whatever else it does, its address is told to nobody."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from control_plane import webhook
from control_plane.errors import Unavailable
from control_plane.event import Entry, Event, EventKind
from control_plane.notice import Notice, Target
from control_plane.webhook import Webhook, signature
from tests.memory import FakeClock

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NOTICE = Notice("d", [Entry(7, Event(1000.0, EventKind.START_FAILED, "x", "A start of m failed.", "m"))])


@dataclass
class Hook:
    """Somebody's address on loopback."""

    status: int = 204
    silent: bool = False
    url: str = ""
    got: list[tuple[web.BaseRequest, bytes]] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.got.append((request, await request.read()))
        if self.silent:
            await asyncio.sleep(3600)
        return web.Response(status=self.status, headers={"location": f"{self.url}/inside"})


@asynccontextmanager
async def listening(hook: Hook, *, plain_http: bool = True) -> AsyncIterator[Webhook]:
    runner = web.ServerRunner(web.Server(hook), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/secret-path"

    async def target() -> Target:
        return Target(hook.url, KEY)

    try:
        async with aiohttp.ClientSession() as http:
            yield Webhook(http, target, clock=FakeClock(1_795_000_000.5), plain_http=plain_http)
    finally:
        await runner.cleanup()


async def test_the_message_is_json_and_signed_as_standard_webhooks_says() -> None:
    hook = Hook()
    async with listening(hook) as channel:
        await channel.send(NOTICE)
    ((request, body),) = hook.got
    assert (request.method, request.path) == ("POST", "/services/secret-path")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(body) == NOTICE.to_dict()
    assert request.headers["webhook-id"] == "d-000000000007"
    assert request.headers["webhook-timestamp"] == "1795000000"
    signed = b"d-000000000007.1795000000." + body
    made = hmac.new(b"0123456789abcdef0123456789abcdef", signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == "v1," + base64.b64encode(made).decode()


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    body = b'{"test": 2432232314}'
    key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_key_that_is_none_signs_nothing() -> None:
    with pytest.raises(Unavailable, match="no base64"):
        signature("not base64!", "id", "1", b"")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 429, 500])
async def test_whatever_is_no_success_is_to_be_tried_again_and_no_redirect_is_followed(status: int) -> None:
    hook = Hook(status)
    async with listening(hook) as channel:
        with pytest.raises(Unavailable, match=f"^the webhook answered {status}$"):
            await channel.send(NOTICE)
    assert len(hook.got) == 1


async def test_who_does_not_answer_is_left_and_the_address_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LIMIT_S", 0.2)
    hook = Hook(silent=True)
    async with listening(hook) as channel:
        with pytest.raises(Unavailable) as error:
            await channel.send(NOTICE)
        hook.url = "http://127.0.0.1:9/services/secret-path"
        with pytest.raises(Unavailable) as refused:
            await channel.send(NOTICE)
    for one in (error.value, refused.value):
        assert "secret-path" not in f"{one!r} {one.__cause__!r}"
        assert one.__suppress_context__


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "ftp://example.org/x", "https://", "nonsense", "http://[::1"])
async def test_only_https_is_called(url: str) -> None:
    hook = Hook()
    async with listening(hook, plain_http=False) as channel:
        hook.url = url
        with pytest.raises(Unavailable, match="not https"):
            await channel.send(NOTICE)
    assert hook.got == []


def test_neither_the_address_nor_the_key_is_shown() -> None:
    assert repr(Target("https://example.org/secret", KEY)) == "Target()"
