"""The headers that tell a client how much of its rates is left, as the OpenAI API spells them."""

from farebox.gateway.transport.wire import Headers
from farebox.metering.quotas import Quotas


def rate_limit_headers(quotas: Quotas) -> Headers:
    """Three for requests and three for tokens, of the tightest limit that applies; none where none does."""
    headers: Headers = []
    for kind, quota in ((b"requests", quotas.requests), (b"tokens", quotas.tokens)):
        if quota is None:
            continue
        seconds = (quota.limit - quota.left) * 60 / quota.limit if quota.limit else 0.0
        headers += [
            (b"x-ratelimit-limit-" + kind, b"%d" % quota.limit),
            (b"x-ratelimit-remaining-" + kind, b"%d" % max(quota.left, 0)),
            (b"x-ratelimit-reset-" + kind, format_duration(seconds)),
        ]
    return headers


def format_duration(seconds: float) -> bytes:
    """A duration as OpenAI writes it: `20ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % (seconds * 1000)
    minutes, rest = divmod(seconds, 60)
    if minutes:
        return b"%dm%ds" % (minutes, rest)
    return f"{rest:.3f}".rstrip("0").rstrip(".").encode() + b"s"
