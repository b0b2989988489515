"""What is told of a settled request: the access line's facts and the metrics. Counts, never text."""

from functools import cache

from farebox.core.http import Exchange
from farebox.core.ids import external
from farebox.core.metrics import FIRST_TOKEN_SECONDS, REQUEST_SECONDS, TOKENS
from farebox.metering.admission import Grant
from farebox.metering.settlement import Settled, Settlement


def record(
    exchange: Exchange, model: str, choices: int, grant: Grant, settlement: Settlement, settled: Settled
) -> None:
    """Note a settlement. A request of which nothing was delivered, and that failed, counts no tokens."""
    billed = settlement.status == "completed" or grant.delivered
    tokens = {
        "input": settlement.input_tokens if billed else 0,
        "cached_input": settlement.cached_input_tokens if billed else 0,
        "output": settlement.output_tokens if billed else 0,
    }
    series = _series_of(model)
    exchange.facts |= {
        "outcome": settlement.status,
        "organization": external("org", grant.organization_id),
        "model": model,
        "choices": choices,
        "amount": settled.amount,
        "first_token_seconds": settlement.first_token_seconds,
        "device_seconds": settlement.device_seconds,
    }
    for kind, count in tokens.items():
        exchange.facts[f"{kind}_tokens"] = count
        series.tokens[kind].inc(count)
    series.seconds.observe(exchange.elapsed)
    if settlement.first_token_seconds is not None:
        series.first_token.observe(settlement.first_token_seconds)


class _Series:
    """The series of one model: looking them up by their labels costs more than counting."""

    def __init__(self, model: str) -> None:
        self.tokens = {kind: TOKENS.labels(model, kind) for kind in ("input", "cached_input", "output")}
        self.seconds = REQUEST_SECONDS.labels(model)
        self.first_token = FIRST_TOKEN_SECONDS.labels(model)


_series_of = cache(_Series)
