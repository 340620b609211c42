"""Who is calling, for a route of FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from control_plane.door import Principal
from control_plane.routes.authenticator import PRINCIPAL, READMIT


async def _caller(request: Request) -> Principal:
    caller: Principal = request.scope[PRINCIPAL]  # put there by Gate, which lets nobody through without
    return caller


async def _readmit(request: Request) -> Readmit:
    readmit: Readmit = request.scope[READMIT]
    return readmit


Readmit = Callable[[], Awaitable[Principal]]
"""Raises what ``Authenticator.admit`` does."""

Caller = Annotated[Principal, Depends(_caller)]
CallerAgain = Annotated[Readmit, Depends(_readmit)]
