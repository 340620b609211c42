"""Who may call which route. One that is not in the table answers nobody."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from fastapi import Request

from control_plane.dialect import DIALECTS
from control_plane.door import Principal
from control_plane.errors import Forbidden
from control_plane.routes.authenticator import LOOKS, PRINCIPAL


class Who(StrEnum):
    """From everybody to one."""

    ANYONE = "anyone"
    PERSON = "person"  # on the allowlist: with a key, a session or an ID token
    OWNER = "owner"


ACCESS: Mapping[str, Who] = {
    "GET /": Who.ANYONE,
    "GET /healthz": Who.ANYONE,
    "GET /api/openapi.json": Who.ANYONE,
    "POST /api/session/start": Who.ANYONE,
    "POST /api/session": Who.ANYONE,
    "GET /api/session": Who.PERSON,
    "DELETE /api/session": Who.PERSON,
    "GET /api/allowlist": Who.OWNER,
    "PUT /api/allowlist/{email}": Who.OWNER,
    "DELETE /api/allowlist/{email}": Who.OWNER,
    **{f"POST {path}": Who.PERSON for path in DIALECTS},
    "GET /v1/models": Who.PERSON,
    "GET /v1/models/{name:path}": Who.PERSON,
    "GET /api/cluster": Who.PERSON,
    "POST /api/cluster/scale": Who.PERSON,
    "GET /api/models": Who.PERSON,
    "GET /api/models/{name:path}": Who.PERSON,
    "PATCH /api/models/{name:path}": Who.PERSON,
    "POST /api/models/{name:path}/cancel": Who.PERSON,
    "POST /api/models/{name:path}/check": Who.PERSON,
    "PUT /api/models/{name:path}/keep-awake": Who.PERSON,
    "POST /api/models/{name:path}/prewarm": Who.PERSON,
    "GET /api/usage": Who.PERSON,
    "GET /api/usage/break-even": Who.PERSON,
    "GET /api/budgets": Who.PERSON,
    "PUT /api/budgets/{scope:path}": Who.OWNER,
    "GET /api/events": Who.PERSON,
    "GET /api/events/stream": Who.PERSON,
    "GET /api/keys": Who.PERSON,
    "POST /api/keys": Who.PERSON,
    "DELETE /api/keys/{key_id}": Who.PERSON,
}

PUBLIC = frozenset(route for route, who in ACCESS.items() if who is Who.ANYONE)


async def check_access(request: Request) -> None:
    """Of every route that FastAPI serves. Raises Forbidden; KeyError, a fault of ours, for one that is not listed.

    A coroutine, though it waits for nothing: a plain function FastAPI would run in a thread.
    """
    who = ACCESS[f"{request.method} {request.scope['route'].path}"]
    if who is Who.ANYONE:
        return
    caller: Principal = request.scope[PRINCIPAL]
    if who is Who.OWNER and not caller.owner:
        raise Forbidden("Only an owner of this deployment may do this.", code="owner_only")
    if caller.key and caller.key.limited and request.method not in LOOKS:
        raise key_is_limited()


def key_is_limited() -> Forbidden:
    """Else it could make itself a key without limits, or wake what it may not ask."""
    return Forbidden("An API key with limits asks models, and changes nothing else.", code="key_is_limited")
