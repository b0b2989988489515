"""What invoices answer when they say no.

InvalidMonth      400  a month that is none
UnknownInvoice    404  absent, or another tenant's
OwnersOnly        403  only an owner of the organization says who is billed
MonthOpen         409  the month cannot be closed yet
BooksDisagree     409  what was used and what moved do not lead to the balance
IssuerIncomplete  409  the settings do not say who sells
NotPayable        409  a document that asks for no payment
NotCreditable     409  more than what is left of an invoice, or a document that cannot be credited
"""

from collections.abc import Sequence

from farebox.core.errors import BadRequest, Conflict, Forbidden, NotFound


class InvalidMonth(BadRequest):
    code = "invalid_value"

    def __init__(self, written: str) -> None:
        super().__init__(f"`{written[:60]}` is not a month; write it like 2026-11.", param="month")


class UnknownInvoice(NotFound):
    code = "not_found"

    def __init__(self) -> None:
        super().__init__("No such invoice.")


class OwnersOnly(Forbidden):
    code = "forbidden"

    def __init__(self) -> None:
        super().__init__("Only an owner of the organization may do this.")


class MonthOpen(Conflict):
    code = "month_open"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The month cannot be closed: {reason}.")


class BooksDisagree(Conflict):
    code = "books_disagree"

    def __init__(self, difference: str, currency: str) -> None:
        super().__init__(f"The balance differs by {difference} {currency} from what was used and what moved.")


class IssuerIncomplete(Conflict):
    code = "issuer_incomplete"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"Nothing can be numbered before {' and '.join(missing)} say who sells; see `docs/invoices.md`."
        )


class NotPayable(Conflict):
    code = "not_payable"


class NotCreditable(Conflict):
    code = "not_creditable"
