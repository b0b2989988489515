"""What is told of a settled request: the access line's facts and the metrics. Counts, never text."""

from functools import cache

from farebox.core.exchange import Exchange
from farebox.core.ids import external
from farebox.core.metrics import FIRST_TOKEN_SECONDS, REQUEST_SECONDS, TOKENS
from farebox.metering.admission import Grant
from farebox.metering.settlement import Settled, Settlement


def record(
    exchange: Exchange, model: str, choices: int, grant: Grant, settlement: Settlement, settled: Settled
) -> None:
    """Note a settlement. A request of which nothing was delivered, and that failed, counts no tokens."""
    billed = settlement.status == "completed" or grant.delivered
    input_tokens = settlement.input_tokens if billed else 0
    cached_input_tokens = settlement.cached_input_tokens if billed else 0
    output_tokens = settlement.output_tokens if billed else 0
    exchange.facts.update(
        outcome=settlement.status,
        organization=external("org", grant.organization_id),
        model=model,
        choices=choices,
        amount=settled.amount,
        first_token_seconds=settlement.first_token_seconds,
        device_seconds=settlement.device_seconds,
        input_tokens=input_tokens,
        cached_input_tokens=cached_input_tokens,
        output_tokens=output_tokens,
    )
    series = _series_of(model)
    series.input.inc(input_tokens)
    if cached_input_tokens:
        series.cached_input.inc(cached_input_tokens)
    series.output.inc(output_tokens)
    series.seconds.observe(exchange.elapsed)
    if settlement.first_token_seconds is not None:
        series.first_token.observe(settlement.first_token_seconds)


class _Series:
    """The series of one model: looking them up by their labels costs more than counting."""

    def __init__(self, model: str) -> None:
        self.input = TOKENS.labels(model, "input")
        self.cached_input = TOKENS.labels(model, "cached_input")
        self.output = TOKENS.labels(model, "output")
        self.seconds = REQUEST_SECONDS.labels(model)
        self.first_token = FIRST_TOKEN_SECONDS.labels(model)


_series_of = cache(_Series)
