"""Errors of the management routes as HTTP, in OpenAI's shape. The one place where they are rendered."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from control_plane.dialect import openai_error
from control_plane.errors import InvalidRequest, MethodNotAllowed, NotFound, RequestError, Unavailable
from control_plane.exchange import error_headers

AWS_RETRY_S = 5

log = logging.getLogger(__name__)


class ServerError(RequestError):
    """A fault of ours: logged with its cause, told to the client without."""

    default_code = "internal_error"


class AwsUnavailable(RequestError):
    status = 503
    default_code = "aws_unavailable"


def as_request_error(error: Exception) -> RequestError:
    """What a client may know of any error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, Unavailable):
        log.warning("AWS unavailable", extra={"error": str(error)})
        return AwsUnavailable(
            "AWS does not answer, or asks us to slow down. Try again in a few seconds.",
            retry_after_s=AWS_RETRY_S,
            should_retry=True,
        )
    log.error("request failed", exc_info=error)
    return ServerError("Something went wrong here; it was logged. Try again.")


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
