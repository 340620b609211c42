"""Calls to sign-in providers: over TLS, bounded in time and size, without redirects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from control_plane.errors import Unavailable
from control_plane.web_address import is_safe

LIMIT_S = 5.0
MAX_BYTES = 256 * 1024


class ProviderWeb:
    """Web over aiohttp."""

    def __init__(self, http: aiohttp.ClientSession, *, plain_http: bool = False) -> None:
        """``plain_http``: providers on loopback may do without TLS."""
        self._http = http
        self._plain_http = plain_http

    async def get(self, url: str, *, bearer: str = "") -> Any:
        return await self._call("GET", url, headers={"Authorization": f"Bearer {bearer}"} if bearer else {})

    async def post(self, url: str, form: Mapping[str, str]) -> Any:
        return await self._call("POST", url, data=dict(form))

    async def _call(self, method: str, url: str, **more: Any) -> Any:
        if not is_safe(url, plain_http=self._plain_http):
            raise Unavailable("a sign-in provider has an address that is not https")
        headers = {"Accept": "application/json", "User-Agent": "diogenes", **more.pop("headers", {})}
        try:
            async with self._http.request(
                method,
                url,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=LIMIT_S),
                **more,
            ) as reply:
                body = await _bounded(reply.content)
                if reply.status != 200:
                    raise Unavailable(f"{_host(url)} answered {reply.status}")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{_host(url)} did not answer: {type(error).__name__}") from error
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{_host(url)} answered something other than JSON") from error


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Unavailable("a sign-in provider answered too much")
    return bytes(body)


def _host(url: str) -> str:
    return urlsplit(url).netloc
