"""The allowlist, for owners: what is configured, and what was decided here beside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from control_plane.routes.caller import Caller
from control_plane.services import Services

router = APIRouter()


class Permission(BaseModel, extra="forbid"):
    """Whether the person becomes an owner, too."""

    owner: bool = False


@router.get("/api/allowlist")
async def show(request: Request) -> dict[str, Any]:
    """Every entry, and whether it admits; `source` says who has to take it away for good."""
    services: Services = request.app.state.services
    return {"entries": [asdict(entry) for entry in (await services.allowlist.roster()).entries()]}


@router.put("/api/allowlist/{email}", status_code=204)
async def permit(email: str, request: Request, caller: Caller, permission: Permission | None = None) -> None:
    """Let an address in, or everybody of *@domain. Holds everywhere within a minute; `pulumi up` leaves it alone."""
    services: Services = request.app.state.services
    await services.allowlist.permit(email, by=caller.email, owner=bool(permission and permission.owner))


@router.delete("/api/allowlist/{email}", status_code=204)
async def forbid(email: str, request: Request, caller: Caller) -> None:
    """Keep an address out, with its sessions and keys, within a minute."""
    services: Services = request.app.state.services
    await services.allowlist.forbid(email, by=caller.email)
