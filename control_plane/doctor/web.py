"""A browser's first request, as far as the doctor needs one."""

from __future__ import annotations

import aiohttp

from control_plane.doctor.ports import Page

_LIMIT_S = 8.0


class HttpWeb:
    """Web over HTTP. Follows no redirect: what is asked for is what must answer."""

    def __init__(self, session: aiohttp.ClientSession, *, limit_s: float = _LIMIT_S) -> None:
        self._session = session
        self._limit = aiohttp.ClientTimeout(total=limit_s)

    async def get(self, url: str) -> Page:
        try:
            async with self._session.get(url, timeout=self._limit, allow_redirects=False) as answer:
                return Page(answer.status, answer.content_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Page(0, trouble=str(error) or type(error).__name__)
