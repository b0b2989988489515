"""The one error envelope.

    FareboxError
    ├── BadRequest            400  invalid_request_error
    ├── Unauthenticated       401  authentication_error
    ├── InsufficientQuota     402  insufficient_quota
    ├── Forbidden             403  permission_error
    ├── NotFound              404  not_found_error
    ├── Conflict              409  conflict_error
    ├── PayloadTooLarge       413  invalid_request_error
    ├── UnsupportedMediaType  415  invalid_request_error
    ├── RateLimited           429  rate_limit_error
    └── Unavailable           503  service_unavailable

Domains subclass these beside their code, with a `code` of their own. The body is OpenAI's:
`{"error": {"message", "type", "param", "code", "request_id"}}`.
"""

from collections.abc import Mapping
from typing import ClassVar


class FareboxError(Exception):
    """An error that the client is told of: an HTTP status, a type, a code and a sentence.

    `headers` go out with the response, `param` names the request field at fault.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        if code is not None:
            self.code = code

    def envelope(self, request_id: str | None) -> dict[str, dict[str, str | None]]:
        """The JSON body."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
                "request_id": request_id,
            }
        }


class BadRequest(FareboxError):
    status = 400
    type = "invalid_request_error"


class Unauthenticated(FareboxError):
    status = 401
    type = "authentication_error"


class InsufficientQuota(FareboxError):
    status = 402
    type = "insufficient_quota"
    code = "insufficient_quota"


class Forbidden(FareboxError):
    status = 403
    type = "permission_error"


class NotFound(FareboxError):
    status = 404
    type = "not_found_error"


class MethodNotAllowed(FareboxError):
    status = 405
    type = "invalid_request_error"


class Conflict(FareboxError):
    status = 409
    type = "conflict_error"


class PayloadTooLarge(FareboxError):
    status = 413
    type = "invalid_request_error"


class UnsupportedMediaType(FareboxError):
    status = 415
    type = "invalid_request_error"


class RateLimited(FareboxError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Unavailable(FareboxError):
    """Something Farebox needs is away; the client may try again after `Retry-After` seconds."""

    status = 503
    type = "service_unavailable"
    code = "service_unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 2) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_seconds)})
