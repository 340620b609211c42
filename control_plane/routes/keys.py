"""API keys of the caller: created, listed, revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints

from control_plane.ports import KeyRow
from control_plane.routes.caller import Caller
from control_plane.services import Services

router = APIRouter()


class NewKey(BaseModel, extra="forbid"):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    wait_s: Annotated[int, Field(ge=0, le=600, strict=True)] | None = None  # as X-Diogenes-Wait on every request


@router.post("/api/keys", status_code=201)
async def create_key(new: NewKey, request: Request, caller: Caller) -> dict[str, Any]:
    """A new key; this answer is the only one that ever holds it in clear."""
    services: Services = request.app.state.services
    key, row = await services.keys.create(email=caller.email, name=new.name, wait_s=new.wait_s)
    return {"key": key, **_entry(row)}


@router.get("/api/keys")
async def list_keys(request: Request, caller: Caller) -> dict[str, Any]:
    services: Services = request.app.state.services
    return {"keys": [_entry(row) for row in await services.keys.list(caller.email)]}


@router.delete("/api/keys/{key_id}", status_code=204)
async def revoke_key(key_id: str, request: Request, caller: Caller) -> None:
    """Holds everywhere within ten seconds."""
    services: Services = request.app.state.services
    await services.keys.revoke(key_id, email=caller.email)


def _entry(row: KeyRow) -> dict[str, Any]:
    return {
        "key_id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "email": row.email,
        "created_at": row.created_at,
        "last_used_at": row.last_used_at or None,
        "wait_s": row.wait_s,
    }
