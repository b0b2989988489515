"""The last step of a whole answer: it is billed, and either it has left for its client or it is credited."""

from decimal import Decimal

from farebox.gateway.transport.wire import Wire
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter


def hand_over(meter: Meter, grant: Grant, wire: Wire) -> None:
    """Tell the meter whether it has left, and the access line what the ledger will have."""
    if meter.hand_over(grant, reached=wire.complete):
        wire.exchange.facts.update(
            outcome="undelivered",
            amount=Decimal(0),
            input_tokens=0,
            cached_input_tokens=0,
            output_tokens=0,
        )
