"""API keys of the caller: created, listed, revoked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from typing_extensions import TypedDict

from control_plane.api_keys import Grant
from control_plane.budget import Budgets, StandingEntry
from control_plane.door import Principal
from control_plane.errors import Forbidden, InvalidRequest, Unavailable
from control_plane.event import EventKind
from control_plane.ports import KeyRow
from control_plane.routes.access import key_is_limited
from control_plane.routes.caller import Caller
from control_plane.services import Services

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]

router = APIRouter()


class NewKey(BaseModel, extra="forbid"):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    wait_s: Annotated[int, Field(ge=0, le=600, strict=True)] | None = None  # as X-Diogenes-Wait on every request
    expires_at: Annotated[float, Field(gt=0, lt=1e11)] | None = None  # Unix seconds
    models: Annotated[list[ModelName], Field(min_length=1, max_length=64)] | None = None  # that it may ask; null: all
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    monthly_budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None


class KeyEntry(TypedDict):
    """A key without its secret. Times are Unix seconds."""

    key_id: str
    name: str
    prefix: str
    email: str
    made_by: str | None  # the id of the key that it was made with, and does not outlive; null: of none
    created_at: float
    last_used_at: float | None
    wait_s: float | None
    expires_at: float | None
    models: list[str] | None  # null: all
    requests_per_minute: int | None
    monthly_budget_usd: float | None
    budget: StandingEntry | None  # this month's, where something limits it, and it is known


class KeyMade(KeyEntry):
    """A key in clear, this once."""

    key: str


class Keys(TypedDict):
    keys: list[KeyEntry]


@router.post("/api/keys", status_code=201)
async def create_key(new: NewKey, request: Request, caller: Caller) -> KeyMade:
    """A new key; this answer is the only one that ever holds it in clear."""
    services: Services = request.app.state.services
    if new.expires_at is not None and new.expires_at <= services.clock():
        raise InvalidRequest("`expires_at` has passed already.", param="expires_at")
    for model in new.models or ():
        await services.catalogue.get(model)
    grant = Grant(
        wait_s=new.wait_s,
        expires_at=new.expires_at,
        models=tuple(new.models or ()),
        requests_per_minute=new.requests_per_minute,
        monthly_budget_usd=new.monthly_budget_usd,
    )
    await _check_maker(services, caller)
    key, row = await services.keys.create(email=caller.email, name=new.name, grant=grant, made_by=caller.key_id)
    told = f"{caller.email} made the key {row.name}."
    services.log.tell(EventKind.KEY_CREATED, told, cause=caller.email, data={"key_id": row.id})
    return {"key": key, **_entry(row, await _budgets(services))}


@router.get("/api/keys")
async def list_keys(request: Request, caller: Caller, everyone: bool = False) -> Keys:
    """One's own; with `everyone=true` those of all, for an owner."""
    if everyone and not caller.owner:
        raise Forbidden("Only an owner of this deployment may do this.", code="owner_only")
    services: Services = request.app.state.services
    rows = await services.keys.list(None if everyone else caller.email)
    budgets = await _budgets(services)
    return {"keys": [_entry(row, budgets) for row in rows]}


@router.delete("/api/keys/{key_id}", status_code=204)
async def revoke_key(key_id: str, request: Request, caller: Caller) -> None:
    """One's own; an owner's hand reaches all. What was made with it goes too. Holds everywhere within ten seconds."""
    services: Services = request.app.state.services
    for row in await services.keys.revoke(key_id, email=None if caller.owner else caller.email):
        told = f"{caller.email} revoked a key{'' if row.id == key_id else ', and with it one that it had made'}."
        services.log.tell(EventKind.KEY_REVOKED, told, cause=caller.email, data={"key_id": row.id, "of": row.email})


async def _check_maker(services: Services, caller: Principal) -> None:
    """What an owner allows a key in a month it must not evade. Raises Forbidden; Unavailable if that is not known."""
    if caller.key and services.limits:
        scope = f"key:{caller.key_id}"
        if any(limit.scope == scope for limit in await services.limits.list()):
            raise key_is_limited()


async def _budgets(services: Services) -> Budgets | None:
    """None where they cannot be read: a new key must be told all the same, and a lost one found to be revoked."""
    try:
        return await services.spending.budgets()
    except Unavailable:
        return None


def _entry(row: KeyRow, budgets: Budgets | None) -> KeyEntry:
    of_key = budgets and budgets.with_key(row.id, row.monthly_budget_usd)
    standing = of_key and of_key.standing(f"key:{row.id}")
    return {
        "key_id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "email": row.email,
        "made_by": row.made_by or None,
        "created_at": row.created_at,
        "last_used_at": row.last_used_at or None,
        "wait_s": row.wait_s,
        "expires_at": row.expires_at,
        "models": list(row.models) or None,
        "requests_per_minute": row.requests_per_minute,
        "monthly_budget_usd": row.monthly_budget_usd,
        "budget": standing.to_dict() if standing else None,
    }
