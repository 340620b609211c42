"""What runs, and the hand on the switch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from typing_extensions import TypedDict

from control_plane.errors import InvalidRequest
from control_plane.ledger import RunEntry, run_dict
from control_plane.routes.caller import Caller
from control_plane.services import Services
from control_plane.status import StatusEntry

router = APIRouter()


class Scale(BaseModel, extra="forbid"):
    """How many nodes of a model shall run; 0 puts it to sleep once its requests have ended."""

    model: Annotated[str, StringConstraints(max_length=256)]  # the constraint also refuses half a surrogate pair
    desired: Annotated[int, Field(ge=0, strict=True)]


class Cluster(TypedDict):
    """Everything that is configured, and what runs of it."""

    now: float  # Unix seconds
    run: RunEntry | None
    models: list[StatusEntry]


@router.get("/healthz")
async def health() -> dict[str, str]:
    """This process answers; says nothing about GPUs."""
    return {"status": "ok"}


@router.get("/")
async def index() -> dict[str, str]:
    """What answers here, for somebody who opened the base URL in a browser."""
    return {"service": "diogenes", "api": "/v1", "management": "/api/cluster", "openapi": "/api/openapi.json"}


@router.get("/api/cluster")
async def cluster(request: Request, _caller: Caller) -> Cluster:
    """Every model's state. Starts nothing, and touches no idle clock."""
    services: Services = request.app.state.services
    statuses = await services.statuses()
    bills = [bill for status in statuses for bill in status.bills]
    if services.task:
        bills.append(services.task.bill)
    return {"now": services.clock(), "run": run_dict(bills), "models": [status.to_dict() for status in statuses]}


@router.post("/api/cluster/scale", status_code=202)
async def scale(wish: Scale, request: Request, caller: Caller) -> StatusEntry:
    """Wake a model, or put it to sleep. Returns at once."""
    services: Services = request.app.state.services
    model = await services.catalogue.get(wish.model)
    if wish.desired > model.max_instances:
        raise InvalidRequest(f"{model.name} may have {model.max_instances} nodes (maxInstances).", param="desired")
    await services.scale(model, wish.desired, by=caller.email, key=caller.key_id)
    return (await services.status(model.name)).to_dict()
