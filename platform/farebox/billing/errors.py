"""What billing answers when it says no.

InvalidAmount     400  an amount that is none, or does not fit to what is there
UnknownModel      404
OtherTransfer     409  the reference of a transfer was used before, for another one
"""

from farebox.core.errors import BadRequest, Conflict, NotFound


class InvalidAmount(BadRequest):
    code = "invalid_amount"


class UnknownModel(NotFound):
    code = "model_not_found"


class OtherTransfer(Conflict):
    code = "reference_used"

    def __init__(self, reference: str, other: str) -> None:
        super().__init__(f"The reference `{reference}` was used for another {other}.")
