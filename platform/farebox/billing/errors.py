"""What billing answers when it says no.

InvalidAmount     400  an amount that is none, or does not fit to what is there
InvalidPrice      400  a price that contradicts itself, or would reach into the past
UnknownModel      404
UnknownPlan       404
OtherTransfer     409  the reference of a transfer was used before, for another one
OverlappingPrice  409  two prices of one customer would hold at once
"""

from datetime import datetime

from farebox.core.clock import iso
from farebox.core.errors import BadRequest, Conflict, NotFound


class InvalidAmount(BadRequest):
    code = "invalid_amount"


class InvalidPrice(BadRequest):
    code = "invalid_price"


class UnknownModel(NotFound):
    code = "model_not_found"


class UnknownPlan(NotFound):
    code = "plan_not_found"


class OtherTransfer(Conflict):
    code = "reference_used"

    def __init__(self, reference: str, other: str) -> None:
        super().__init__(f"The reference `{reference}` was used for another {other}.")


class OverlappingPrice(Conflict):
    code = "price_overlaps"

    def __init__(self, starts: datetime, ends: datetime | None) -> None:
        until = f" to {iso(ends)}" if ends else " on"
        super().__init__(f"There is a price of the same model and customer from {iso(starts)}{until}.")
