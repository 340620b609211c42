"""What a client may know of an error, whatever it was."""

from __future__ import annotations

import logging

from control_plane.errors import RequestError, Unavailable

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
