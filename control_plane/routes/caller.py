"""Who is calling: the API key of a request, from either of the headers that clients use."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from control_plane.api_keys import ApiKeys
from control_plane.errors import InvalidApiKey
from control_plane.ports import KeyRow

CALLER = "diogenes.caller"
"""Where a request's scope holds the row of its key."""


async def authenticate(authorization: str, x_api_key: str, keys: ApiKeys) -> KeyRow:
    """The key's row. Raises InvalidApiKey."""
    scheme, _, token = authorization.partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else x_api_key
    if not key:
        raise InvalidApiKey("No API key. Send `Authorization: Bearer dio-…`.", code="missing_api_key")
    return await keys.verify(key)


def _caller(request: Request) -> KeyRow:
    caller: KeyRow = request.scope[CALLER]  # put there by Gate, which lets nobody through without
    return caller


Caller = Annotated[KeyRow, Depends(_caller)]
