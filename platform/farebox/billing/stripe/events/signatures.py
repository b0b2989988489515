"""Whether a webhook is Stripe's, and of now.

The package's own check believes timestamps in the future, and fails with other errors than its own at bytes
that are no text. A notice that was kept for later is refused as one that was kept from before.
"""

import time
from collections.abc import Callable, Sequence

from stripe import SignatureVerificationError, WebhookSignature

from farebox.core.errors import BadRequest
from farebox.core.settings import Settings, comma_separated

TOLERANCE_SECONDS = 300


class NotFromStripe(BadRequest):
    """One answer to every webhook that is not, or that cannot be read: it is no oracle."""

    code = "invalid_signature"

    def __init__(self) -> None:
        super().__init__("This is no webhook that Stripe signed just now.")


def check_signature(
    body: bytes, headers: Sequence[str], secrets: Sequence[str], clock: Callable[[], float] = time.time
) -> str:
    """The body as text. Raises NotFromStripe unless one of the secrets signed it within the tolerance."""
    if len(headers) != 1 or not headers[0].isascii():
        raise NotFromStripe
    try:
        text = body.decode()
        timestamp = _timestamp(headers[0])
    except (UnicodeDecodeError, ValueError):
        raise NotFromStripe from None
    fresh = abs(clock() - timestamp) <= TOLERANCE_SECONDS
    if not fresh or not any(_signed(text, headers[0], secret) for secret in secrets):
        raise NotFromStripe
    return text


def _timestamp(header: str) -> int:
    """Of `t=1700000000,v1=…`. Raises ValueError."""
    (written,) = (part[2:] for part in header.split(",") if part.startswith("t="))
    if not written.isdigit() or len(written) > 12:
        raise ValueError(written)
    return int(written)


def _signed(text: str, header: str, secret: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(text, header, secret))
    except SignatureVerificationError:
        return False


def secrets_for(settings: Settings, *, thin: bool) -> list[str]:
    return comma_separated(
        (settings.stripe_webhook_secret if thin else settings.stripe_snapshot_secret) or ""
    )
