"""What a limit's refusal says: to the client in headers, to the operator in the access line."""

from collections.abc import Iterator
from contextlib import contextmanager

from farebox.core.exchange import Exchange
from farebox.core.ids import external
from farebox.gateway.rate_limit_headers import rate_limit_headers
from farebox.metering.errors import LimitReached

_PREFIXES = {"organization": "org", "project": "proj", "key": "key"}


@contextmanager
def refusals_told(exchange: Exchange) -> Iterator[None]:
    """Around an admission: a limit that refuses says what is left, and the access line which one it was."""
    try:
        yield
    except LimitReached as refusal:
        tell_refusal(exchange, refusal)
        raise


def tell_refusal(exchange: Exchange, refusal: LimitReached) -> None:
    """Put what is left into the answer's headers, and the limit and its scope into the access line."""
    headers = rate_limit_headers(refusal.quotas)
    refusal.headers |= {name.decode(): value.decode() for name, value in headers}
    exchange.facts["refused_by"] = refusal.limit
    exchange.facts["scope"] = refusal.scope
    if refusal.scope_id is not None:
        exchange.facts["scope_id"] = external(_PREFIXES[refusal.scope], refusal.scope_id)
    if refusal.organization_id is not None:
        exchange.facts["organization"] = external("org", refusal.organization_id)
