"""An issuer's document and keys, asked for by many at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from control_plane.errors import Unavailable
from control_plane.identity import KEYS_FRESH_S, KEYS_KEPT_S, IdTokens
from tests.memory import FakeClock
from tests.memory_people import MemoryWeb
from tests.people.issuer import PROVIDER, URL, Issuer

AGAIN_S = 30.0
MANY = 20


@dataclass
class SlowWeb(MemoryWeb):
    """Others come while it is asked."""

    async def get(self, url: str, *, bearer: str = "") -> Any:
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().get(url, bearer=bearer)


class Desk:
    def __init__(self) -> None:
        self.clock, self.web = FakeClock(), SlowWeb()
        self.issuer = Issuer(self.web, self.clock)
        self.tokens = IdTokens(self.web, clock=self.clock, ask_again_s=AGAIN_S)

    async def verified(self) -> list[str]:
        """By many at once."""
        token = self.issuer.token()
        found = await asyncio.gather(*(self.tokens.verify(token, [PROVIDER]) for _ in range(MANY)))
        return [identity.email for identity in found]

    @property
    def reads(self) -> int:
        return self.web.asked.count(f"{URL}/keys")


async def test_sign_ins_that_begin_together_share_one_look_at_the_issuer() -> None:
    desk = Desk()
    urls = await asyncio.gather(*(desk.tokens.issuer(URL).authorize_url() for _ in range(MANY)))
    assert urls == [f"{URL}/authorize"] * MANY
    assert desk.reads == 1


async def test_tokens_that_come_together_after_a_rotation_share_one_look_at_the_keys() -> None:
    desk = Desk()
    assert await desk.verified() == ["ann@example.com"] * MANY
    desk.issuer.rotate()
    desk.clock.step(AGAIN_S)
    assert await desk.verified() == ["ann@example.com"] * MANY
    assert desk.reads == 2
    desk.clock.step(KEYS_FRESH_S)
    assert await desk.verified() == ["ann@example.com"] * MANY
    assert desk.reads == 3


async def test_a_look_that_fails_fails_for_all_who_wait_for_it_and_is_made_again_later() -> None:
    desk = Desk()
    desk.web.broken.fail("get")
    starts = [desk.tokens.issuer(URL).authorize_url() for _ in range(MANY)]
    assert {type(each) for each in await asyncio.gather(*starts, return_exceptions=True)} == {Unavailable}
    with pytest.raises(Unavailable, match="a moment ago"):
        await desk.tokens.issuer(URL).authorize_url()
    desk.clock.step(AGAIN_S)
    assert await desk.verified() == ["ann@example.com"] * MANY


async def test_who_came_first_may_leave_first() -> None:
    desk = Desk()
    first = asyncio.ensure_future(desk.tokens.issuer(URL).authorize_url())
    await asyncio.sleep(0)
    first.cancel()
    assert await desk.tokens.issuer(URL).authorize_url() == f"{URL}/authorize"
    assert desk.reads == 1


async def test_known_keys_serve_while_the_issuer_is_silent_for_a_day() -> None:
    desk = Desk()
    await desk.verified()
    desk.clock.step(KEYS_FRESH_S)
    desk.web.broken.fail("get", times=1000)
    assert await desk.verified() == ["ann@example.com"] * MANY
    desk.clock.step(KEYS_KEPT_S)
    with pytest.raises(Unavailable):
        await desk.verified()


async def test_a_key_that_is_new_while_the_issuer_is_silent_is_asked_for_later_and_not_called_wrong() -> None:
    desk = Desk()
    await desk.verified()
    desk.issuer.rotate()
    desk.clock.step(AGAIN_S)
    desk.web.broken.fail("get")
    with pytest.raises(Unavailable):
        await desk.tokens.verify(desk.issuer.token(), [PROVIDER])
    desk.clock.step(AGAIN_S)
    assert await desk.verified() == ["ann@example.com"] * MANY
