"""Every error that a caller or another part may see.

DiogenesError
├── RequestError                 the client can read it; has an HTTP status and a stable code
│   ├── InvalidRequest      400  malformed JSON, wrong type, missing field
│   ├── InvalidApiKey       401  no key, malformed, unknown or revoked
│   ├── Unauthenticated     401  an ID token, a session or a sign-in that does not hold
│   ├── Forbidden           403  known, but not allowed
│   ├── NotFound            404  no such path or object
│   ├── ModelNotFound       404  not in the catalogue
│   ├── MethodNotAllowed    405
│   ├── Conflict            409  somebody else changed it first
│   ├── BodyTooLarge        413
│   ├── QueueFull           429  too many requests wait for this model already
│   ├── RateLimited         429  more requests in a minute than the key may make
│   ├── ModelStarting       503  not ready yet, come back
│   ├── StartTimeout        503  waited as long as allowed; says how far the start has come
│   ├── StartFailed   403 | 503  cannot start; carries the Failure that says why
│   ├── EngineLost          502  the node went away under a request, more than once or mid-answer
│   └── TakenBack           502  AWS took the Spot node back in mid-answer, and the answer cannot be continued
├── Stale                        a conditional write lost its race; read again
├── Unavailable                  AWS did not answer, or throttled us; try again later
└── LaunchRefused                the cloud said no to one launch
    ├── NoCapacity               none of that type in that zone now
    ├── QuotaExceeded            the account's vCPU quota is too small
    └── LaunchMisconfigured      group, template or permission is wrong: trying again cannot help
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gpu_node.protocol import Failure

MAX_RETRY_AFTER_S = 59
"""The longest Retry-After that every client honours; the SDKs come back twice."""


class DiogenesError(Exception):
    """The root; never raised itself."""


class RequestError(DiogenesError):
    """An answer to a client. Rendered once, in ``routes.render``."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"  # OpenAI's `error.type`
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        should_retry: bool | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        self.details = details or {}  # further members of the error object

    @property
    def http_status(self) -> int:
        return self.status


class InvalidRequest(RequestError):
    status = 400
    kind = "invalid_request_error"


class InvalidApiKey(RequestError):
    status = 401
    kind = "invalid_request_error"
    default_code = "invalid_api_key"


class Unauthenticated(RequestError):
    status = 401
    kind = "invalid_request_error"
    default_code = "invalid_token"


class Forbidden(RequestError):
    status = 403
    kind = "permission_error"
    default_code = "forbidden"


class NotFound(RequestError):
    status = 404
    kind = "invalid_request_error"
    default_code = "not_found"


class ModelNotFound(RequestError):
    status = 404
    kind = "invalid_request_error"
    default_code = "model_not_found"


class MethodNotAllowed(RequestError):
    status = 405
    kind = "invalid_request_error"
    default_code = "method_not_allowed"


class Conflict(RequestError):
    status = 409
    kind = "invalid_request_error"
    default_code = "conflict"


class BodyTooLarge(RequestError):
    status = 413
    kind = "invalid_request_error"
    default_code = "request_too_large"


class QueueFull(RequestError):
    status = 429
    kind = "rate_limit_error"
    default_code = "queue_full"


class RateLimited(RequestError):
    status = 429
    kind = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class ModelStarting(RequestError):
    status = 503
    default_code = "model_starting"


class StartTimeout(RequestError):
    status = 503
    default_code = "start_timeout"


class EngineLost(RequestError):
    status = 502
    default_code = "engine_lost"


class TakenBack(RequestError):
    status = 502
    default_code = "spot_interrupted"


class StartFailed(RequestError):
    """The model cannot start. 403 when only a change can help, else 503; never retried by a stock client."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence, code=failure.code, should_retry=False)
        self.failure = failure

    @property
    def http_status(self) -> int:
        return 403 if self.failure.permanent else 503


class Stale(DiogenesError):
    """A conditional write did not find what it expected; nothing was written."""


class Unavailable(DiogenesError):
    """AWS could not be reached, or asked us to slow down; nothing is known about the effect."""


class LaunchRefused(DiogenesError):
    """One launch was refused, for certain: no instance exists because of it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class NoCapacity(LaunchRefused):
    pass


class QuotaExceeded(LaunchRefused):
    pass


class LaunchMisconfigured(LaunchRefused):
    pass
