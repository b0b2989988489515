"""What goes wrong with payments.

NotSwitchedOn   404  this Farebox takes no payments
UnknownTopUp    404
KeyReused       409  a client's key was used for another top-up
ProcessorAway   503  Stripe cannot be reached, or is busy: another try can help
Declined             the payer's bank said no, or wants to ask its customer
ProcessorRefused 400  Stripe refused what was asked of it: another try is of no use
NotBound             what was paid belongs to a top-up that is not here yet
DeadLetter           somebody must look at it
"""

from farebox.core.errors import BadRequest, Conflict, NotFound, Unavailable


class NotSwitchedOn(NotFound):
    code = "payments_off"

    def __init__(self) -> None:
        super().__init__("This Farebox takes no payments. Ask who runs it for credit.")


class UnknownTopUp(NotFound):
    code = "not_found"

    def __init__(self) -> None:
        super().__init__("No such top-up.")


class KeyReused(Conflict):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This `Idempotency-Key` was used for another top-up. Send a new one.")


class ProcessorAway(Unavailable):
    def __init__(self, reason: str) -> None:
        super().__init__("The payment processor cannot be reached; please try again.", retry_after_seconds=5)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.message} ({self.reason})"


class ProcessorRefused(BadRequest):
    """`reason` and `refusal` are Stripe's words and its code, such as `charge_already_refunded`. They are for
    the operator: the customer can mend nothing."""

    code = "payment_refused"

    def __init__(self, reason: str, refusal: str | None) -> None:
        super().__init__("The payment processor refused this. Ask who runs this Farebox.")
        self.reason, self.refusal = reason, refusal

    def __str__(self) -> str:
        return self.reason


class Declined(ProcessorRefused):
    """`refusal` is `invoice_payment_intent_requires_action` where the bank wants to ask its customer."""

    @property
    def wants_action(self) -> bool:
        return self.refusal in ("invoice_payment_intent_requires_action", "authentication_required")


class NotBound(Exception):
    """It may be, soon: what is here is written after Stripe's answer."""


class DeadLetter(Exception):
    """Trying again cannot help."""
