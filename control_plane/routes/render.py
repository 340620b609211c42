"""Errors of the management routes as HTTP, in OpenAI's shape. The one place where they are rendered."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from control_plane.dialect import openai_error
from control_plane.errors import InvalidRequest, MethodNotAllowed, NotFound, RequestError, Unavailable
from control_plane.exchange import error_headers
from control_plane.routes.fault import as_request_error


def install(app: FastAPI) -> None:
    """Every error of the app's routes, also those of the framework, in our shape."""

    @app.exception_handler(RequestError)
    @app.exception_handler(Unavailable)
    @app.exception_handler(Exception)
    async def _known(_request: Request, error: Exception) -> Response:
        return _response(as_request_error(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return _response(InvalidRequest(f"{where or 'body'}: {first['msg']}", param=where or None))

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path}"
        if error.status_code == 404:
            return _response(NotFound(f"There is nothing at {where}.", code="unknown_url"))
        if error.status_code == 405:
            return _response(MethodNotAllowed(f"{where} is not allowed."), **(error.headers or {}))
        return _response(InvalidRequest(str(error.detail)))


def _response(error: RequestError, **headers: str) -> Response:
    headers |= {name.decode(): value.decode() for name, value in error_headers(error)}
    return JSONResponse({"error": openai_error(error)}, status_code=error.http_status, headers=headers)
