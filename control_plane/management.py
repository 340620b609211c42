"""The routes that FastAPI serves. A module of its own: to import it takes longer than all else that a wake needs."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Depends, FastAPI

from control_plane.routes import allowlist, cluster, events, keys, models, render, session, usage
from control_plane.routes.access import check_access
from control_plane.routes.authenticator import Authenticator
from control_plane.routes.cookies import Cookies
from control_plane.routes.gate import Gate
from control_plane.services import Services


def gated(services: Services, cookies: Cookies, authenticator: Authenticator, *, request_id: Callable[[], str]) -> Gate:
    """The routes, and who may come to them."""
    return Gate(management_app(services, cookies), authenticator, request_id=request_id)


def management_app(services: Services, cookies: Cookies) -> FastAPI:
    """The routes that FastAPI serves."""
    app = FastAPI(
        title="Diogenes",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,  # it would name whatever host and scheme stood in front of us
    )
    app.state.services = services
    app.state.cookies = cookies
    for routes in (cluster, models, keys, events, session, allowlist, usage):
        app.include_router(routes.router, dependencies=[Depends(check_access)])
    render.install(app)
    return app
