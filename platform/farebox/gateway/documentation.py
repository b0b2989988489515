"""What all inference endpoints say of themselves in the API reference; see `core.openapi.documentation`."""

from decimal import Decimal

from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import BODY_ERRORS, SERVER_ERRORS
from farebox.gateway.errors import GenerationFailed, ShuttingDown, TooManyPending, TooManyRefusals
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey
from farebox.metering.errors import ModelNotFound, QuotaExceeded, RateLimitExceeded

_RATE_LIMITS = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-limit-tokens": "100000",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-remaining-tokens": "98953",
    "x-ratelimit-reset-requests": "100ms",
    "x-ratelimit-reset-tokens": "628ms",
}
ANSWER_HEADERS = ("openai-processing-ms", *_RATE_LIMITS, "Farebox-Receipt")


def _limited(error: FareboxError) -> FareboxError:
    """An admission's refusal, with the headers that say what is left."""
    error.headers |= _RATE_LIMITS
    return error


KEY_ERRORS = (DuplicateHeader(), InvalidApiKey(), *SERVER_ERRORS)
INFERENCE_ERRORS = (
    *BODY_ERRORS,
    DuplicateHeader(),
    InvalidApiKey(),
    InsufficientScope("inference"),
    _limited(QuotaExceeded("organization", "balance", Decimal("0.0004"), Decimal("0.0121"), "USD")),
    ModelNotFound("gpt-7"),
    _limited(RateLimitExceeded("project", "requests_per_minute", Decimal(600), 1.2)),
    TooManyPending("pending_requests", "key"),
    TooManyRefusals("refused_requests_per_minute", "organization", 3),
    GenerationFailed(),
    *SERVER_ERRORS,
    ShuttingDown(),
)
