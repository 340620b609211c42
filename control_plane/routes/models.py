"""The models: OpenAI's list, and Diogenes' own view with configuration, start and log."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from control_plane.assessment import Assessment, Ground, assess, draft, refuse
from control_plane.errors import Conflict, Forbidden, InvalidRequest, Stale
from control_plane.model import CONFIG_KEYS, OVERRIDABLE, InvalidModel, Model, check_override
from control_plane.prices import prices
from control_plane.routes.caller import Caller
from control_plane.services import Services
from control_plane.status import ModelDetails, ModelEntry, Status, configuration, node_dict

MAX_KEEP_AWAKE_S = 24 * 3600

router = APIRouter()


class KeepAwake(BaseModel, extra="forbid"):
    """Until when (Unix seconds) the model's nodes stay though nobody asks; null takes it back."""

    until: Annotated[float, Field(gt=0)] | None


class OpenAIModel(TypedDict):
    """As OpenAI lists a model."""

    id: str
    object: str
    created: int
    owned_by: str


class OpenAIModels(TypedDict):
    object: str
    data: list[OpenAIModel]


class Models(TypedDict):
    models: list[ModelEntry]


@router.get("/v1/models")
async def list_models(request: Request, caller: Caller) -> OpenAIModels:
    """Every configured model that the caller may ask, whether or not it runs. Starts nothing."""
    services: Services = request.app.state.services
    services.catalogue.refresh(await services.stores.models.list())
    models = [model for model in services.catalogue.models.values() if caller.may_ask(model.name)]
    return {"object": "list", "data": [_openai_model(model) for model in models]}


@router.get("/v1/models/{name:path}")
async def get_model(name: str, request: Request, _caller: Caller) -> OpenAIModel:
    services: Services = request.app.state.services
    return _openai_model(await services.catalogue.get(name))


@router.get("/api/models")
async def list_statuses(request: Request, _caller: Caller) -> Models:
    services: Services = request.app.state.services
    return {"models": [{**status.to_dict(), **configuration(status.model)} for status in await services.statuses()]}


@router.post("/api/models/{name:path}/cancel", status_code=202)
async def cancel_start(name: str, request: Request, caller: Caller) -> ModelDetails:
    """Stop a start that is going on; who waits for it is told so."""
    services: Services = request.app.state.services
    status = await services.status(name)
    if status.word != "starting":
        raise Conflict(f"{name} is {status.word}, not starting. Scale it to 0 to put it to sleep.", code="not_starting")
    await services.scale(status.model, 0, by=caller.email)
    return await _details(services, name)


@router.post("/api/models/{name:path}/check")
async def check_draft(
    name: str, changed: Annotated[dict[str, Any], Body()], request: Request, caller: Caller
) -> Assessment:
    """What would become of the model with these keys of its configuration instead, hardware included: whether it can
    be used and fits, and what it costs. Null is what Pulumi has; what is not named stays. Changes nothing.

    Another repository or revision only an owner may name: the hub is asked with the deployment's own token."""
    services: Services = request.app.state.services
    status = await services.status(name)
    _check_text(changed)
    foreign = sorted(set(changed) - (CONFIG_KEYS - {"name"}))
    if foreign:
        raise InvalidRequest(f"{foreign[0]!r} is no setting that can be checked.", param=foreign[0])
    prices_of = prices().date.isoformat()
    try:
        model = draft(status.model, changed)
    except InvalidModel as error:
        return refuse(error, market=str(status.model.market), prices_of=prices_of)
    if not caller.owner and _place(model) != _place(status.model):
        raise Forbidden("Only an owner of this deployment has another repository looked at.", code="owner_only")
    shape = await services.shapes.of(model)
    return assess(model, Ground(shape, services.policy.sizes, status.row.boots, prices_of))


@router.post("/api/models/{name:path}/prewarm", status_code=202)
async def prewarm(name: str, request: Request, caller: Caller) -> ModelDetails:
    """Somebody picked this model and will ask it soon: start it, if the budget for speculation allows."""
    services: Services = request.app.state.services
    await services.prewarm(await services.status(name), by=caller.email, key=caller.key_id)
    return await _details(services, name)


@router.put("/api/models/{name:path}/keep-awake")
async def keep_awake(name: str, wish: KeepAwake, request: Request, caller: Caller) -> ModelDetails:
    """Keep what runs; this starts nothing."""
    services: Services = request.app.state.services
    status = await services.status(name)
    until, now = wish.until or 0.0, services.clock()
    if until and not now < until <= now + MAX_KEEP_AWAKE_S:
        raise InvalidRequest("until must lie ahead, by at most 24 hours", param="until")
    await services.stores.wishes.keep_awake(status.model.name, until, by=caller.email, at=now)
    services.chronicle.kept_awake(status.model.name, until, by=caller.email)
    services.fleet.disturbed.set()
    return await _details(services, name)


@router.get("/api/models/{name:path}")
async def get_status(name: str, request: Request, _caller: Caller) -> ModelDetails:
    """One model with its nodes' phases and, while they start or when they failed, their last log lines."""
    return await _details(request.app.state.services, name)


@router.patch("/api/models/{name:path}")
async def edit_model(
    name: str, override: Annotated[dict[str, Any], Body()], request: Request, caller: Caller
) -> ModelDetails:
    """Change what may be changed without Pulumi; null takes a change back. Holds from the next start on."""
    services: Services = request.app.state.services
    status = await services.status(name)
    merged = {**status.model.override, **override}
    wanted = {key: value for key, value in merged.items() if value is not None}
    _check(status.model, override, wanted)
    try:
        await services.stores.models.set_override(name, wanted, expected=status.model.override)
    except Stale as error:
        raise Conflict(f"{name} was changed by somebody else just now. Look again.") from error
    services.chronicle.changed(name, override, by=caller.email)
    services.fleet.disturbed.set()
    return await _details(services, name)


def _check(model: Model, override: dict[str, Any], wanted: dict[str, Any]) -> None:
    _check_text(override)
    foreign = sorted(set(override) - OVERRIDABLE)
    try:
        check_override(model, {**wanted, **{key: override[key] for key in foreign}})
    except InvalidModel as error:
        raise InvalidRequest(str(error), code="invalid_model", param=foreign[0] if foreign else None) from error


def _place(model: Model) -> tuple[str, str | None]:
    """What of the hub is read for it."""
    return model.repository, model.revision


def _check_text(told: dict[str, Any]) -> None:
    try:
        orjson.dumps(told)
    except orjson.JSONEncodeError as error:  # half a surrogate pair, an endless number: no table holds it, nor JSON
        raise InvalidRequest(f"This cannot be stored: {error}", code="invalid_model") from error


async def _details(services: Services, name: str) -> ModelDetails:
    status: Status = await services.status(name)
    nodes = [node_dict(node, status.now, log_tail=True) for node in status.nodes]
    log = list(status.row.failure_log)
    return {**status.to_dict(), **configuration(status.model), "failure_log": log, "instances": nodes}


def _openai_model(model: Model) -> OpenAIModel:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "diogenes"}
