"""Who is calling: the credentials of a request, from where clients and browsers put them."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.door import Credentials, Door, Principal
from control_plane.routes.cookies import Cookies, parse

PRINCIPAL = "diogenes.principal"
"""Where a request's scope holds who makes it."""

READMIT = "diogenes.readmit"
"""And how to ask again whether they may come in, for answers that go on for long."""

LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})


class Authenticator:
    """The door, for requests as ASGI has them."""

    def __init__(self, door: Door, cookies: Cookies) -> None:
        self._door = door
        self._cookies = cookies

    async def admit(self, headers: Mapping[bytes, bytes], method: str) -> Principal:
        """Raises InvalidApiKey, Unauthenticated, Forbidden, Unavailable."""
        return await self._door.admit(
            Credentials(
                authorization=_text(headers, b"authorization"),
                x_api_key=_text(headers, b"x-api-key"),
                cookie=parse(_text(headers, b"cookie")).get(self._cookies.session, "") if b"cookie" in headers else "",
                csrf=_text(headers, b"x-diogenes-csrf"),
                origin=_text(headers, b"origin"),
                changes=method not in LOOKS,
            )
        )

    async def allow(self, principal: Principal, model: str, *, again: bool = False) -> None:
        """As Door.allow. Raises Forbidden, RateLimited, and what a guard raises."""
        await self._door.allow(principal, model, again=again)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")
