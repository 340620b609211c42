"""The allowlist, for owners: what is configured, and what was decided here beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from control_plane.door import Principal
from control_plane.event import EventKind, EventValue
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
    owner = bool(permission and permission.owner)
    entry = await services.allowlist.permit(email, by=caller.email, owner=owner)
    told = f"{caller.email} let {entry} in{' as an owner' if owner else ''}."
    _tell(services, told, caller, {"entry": entry, "allowed": True, "owner": owner})


@router.delete("/api/allowlist/{email}", status_code=204)
async def forbid(email: str, request: Request, caller: Caller) -> None:
    """Keep an address out, with its sessions and keys, within a minute."""
    services: Services = request.app.state.services
    entry = await services.allowlist.forbid(email, by=caller.email)
    _tell(services, f"{caller.email} keeps {entry} out.", caller, {"entry": entry, "allowed": False})


def _tell(services: Services, told: str, caller: Principal, data: Mapping[str, EventValue]) -> None:
    services.log.tell(EventKind.ALLOWLIST_CHANGED, told, cause=caller.email, data=data)
