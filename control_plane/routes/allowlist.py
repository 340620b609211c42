"""The allowlist, for owners: what is configured, and what was decided here beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal, cast

from fastapi import APIRouter, Request
from pydantic import BaseModel
from typing_extensions import TypedDict

from control_plane.addresses import domain_entry
from control_plane.allowlist import folded
from control_plane.door import Principal
from control_plane.event import EventKind, EventValue
from control_plane.routes.caller import Caller
from control_plane.services import Services

router = APIRouter()


class Permission(BaseModel, extra="forbid"):
    """Whether the person becomes an owner, too."""

    owner: bool = False


class AllowlistEntry(TypedDict):
    """An address, or everybody of *@domain."""

    email: str
    source: Literal["pulumi", "owner"]
    allowed: bool
    owner: bool


class Allowlist(TypedDict):
    entries: list[AllowlistEntry]


@router.get("/api/allowlist")
async def show(request: Request) -> Allowlist:
    """Every entry, and whether it admits; `source` says who has to take it away for good."""
    services: Services = request.app.state.services
    return {"entries": [cast(AllowlistEntry, asdict(entry)) for entry in (await services.allowlist.roster()).entries()]}


@router.put("/api/allowlist/{email}", status_code=204)
async def permit(email: str, request: Request, caller: Caller, permission: Permission | None = None) -> None:
    """Let an address in, or everybody of *@domain. Holds everywhere within a minute; `pulumi up` leaves it alone."""
    services: Services = request.app.state.services
    await _put_out(services, folded(email), caller)  # what they had when they were let in before is not theirs again
    owner = permission.owner if permission else None
    decided = await services.allowlist.permit(email, by=caller.email, owner=owner)
    told = f"{caller.email} let {decided.entry} in{' as an owner' if decided.owner else ''}."
    _tell(services, told, caller, {"entry": decided.entry, "allowed": True, "owner": decided.owner})


@router.delete("/api/allowlist/{email}", status_code=204)
async def forbid(email: str, request: Request, caller: Caller) -> None:
    """Keep an address out, with its sessions and keys, within a minute."""
    services: Services = request.app.state.services
    entry = await services.allowlist.forbid(email, by=caller.email)
    _tell(services, f"{caller.email} keeps {entry} out.", caller, {"entry": entry, "allowed": False})
    await _put_out(services, entry, caller)


async def _put_out(services: Services, entry: str, caller: Principal) -> None:
    """End the sessions and revoke the keys of everybody of this entry whom nothing admits. Raises Unavailable."""
    roster = await services.allowlist.roster()
    known = {*(row.email for row in await services.keys.list()), *await services.sessions.emails()}
    for email in sorted(known):
        if entry in (email, domain_entry(email)) and not roster.admits(email):
            await services.sessions.end_all(email)
            for row in await services.keys.revoke_all(email):
                services.log.tell(
                    EventKind.KEY_REVOKED,
                    f"{caller.email} revoked a key of {email}, who is kept out.",
                    cause=caller.email,
                    data={"key_id": row.id, "of": email},
                )


def _tell(services: Services, told: str, caller: Principal, data: Mapping[str, EventValue]) -> None:
    services.log.tell(EventKind.ALLOWLIST_CHANGED, told, cause=caller.email, data=data)
