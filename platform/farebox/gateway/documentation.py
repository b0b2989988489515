"""What all inference endpoints say of themselves in the API reference; see `core.openapi.documentation`."""

from decimal import Decimal

from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import BODY_ERRORS, SERVER_ERRORS
from farebox.gateway.errors import (
    ContextLengthExceeded,
    GenerationFailed,
    GrammarStuck,
    InvalidParameter,
    ShuttingDown,
    UnsupportedParameter,
)
from farebox.gateway.transport.http_protocol import MAX_HEAD_BYTES, HeadTooLarge
from farebox.keys.errors import InsufficientScope, InvalidApiKey
from farebox.metering.errors import ModelNotFound, QuotaExceeded, RateLimitExceeded

_RATE_LIMITS = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-limit-tokens": "100000",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-remaining-tokens": "98953",
    "x-ratelimit-reset-requests": "100ms",
    "x-ratelimit-reset-tokens": "628ms",
}
ANSWER_HEADERS = ("openai-processing-ms", *_RATE_LIMITS)


def _limited(error: FareboxError) -> FareboxError:
    """An admission's refusal, with the headers that say what is left."""
    error.headers |= _RATE_LIMITS
    return error


KEY_ERRORS = (
    InvalidApiKey(),
    HeadTooLarge(f"The request line and headers exceed {MAX_HEAD_BYTES} bytes."),
    *SERVER_ERRORS,
)
INFERENCE_ERRORS = (
    *BODY_ERRORS,
    InvalidParameter("`stream_options` goes with `stream: true` only.", "stream_options"),
    UnsupportedParameter("tools"),
    ContextLengthExceeded(2048, 1900, 400, "messages"),
    GrammarStuck(
        "The grammar became too ambiguous in mid-answer: too many rules could go on at once.",
        "structured_outputs",
    ),
    InvalidApiKey(),
    InsufficientScope("inference"),
    _limited(QuotaExceeded("organization", "balance", Decimal("0.0004"), Decimal("0.0121"), "USD")),
    ModelNotFound("gpt-7"),
    _limited(RateLimitExceeded("project", "requests_per_minute", Decimal(600), 1.2)),
    HeadTooLarge(f"The request line and headers exceed {MAX_HEAD_BYTES} bytes."),
    GenerationFailed(),
    *SERVER_ERRORS,
    ShuttingDown(),
)
