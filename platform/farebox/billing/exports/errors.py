"""What exports answer when they say no.

InvalidExport      400  a format that does not fit, a period that is empty, too long, or not over
ExportUnderWay     409  an organization has as many exports under way as it may
TooManyExports     409  an organization has as many exports, or as much of them, as is kept
ExportNotFound     404  also for one of somebody else
LinkExpired        403  a link to a part that is old, or that nobody signed
UnbalancedExport   500  what was written is not what the ledger says: nothing is finished
"""

from farebox.core.errors import BadRequest, Conflict, FareboxError, Forbidden, NotFound


class InvalidExport(BadRequest):
    code = "invalid_export"


class ExportUnderWay(Conflict):
    code = "export_under_way"

    def __init__(self, bound: int) -> None:
        super().__init__(f"{bound} exports are under way; wait until one is completed.")


class TooManyExports(Conflict):
    code = "too_many_exports"

    def __init__(self, number: int, size: int, days: int) -> None:
        super().__init__(
            f"An organization has at most {number} exports and {size / 1e9:g} GB in {days} days; "
            "ask again when older ones are gone."
        )


class ExportNotFound(NotFound):
    code = "not_found"

    def __init__(self) -> None:
        super().__init__("No such export.")


class LinkExpired(Forbidden):
    code = "link_expired"

    def __init__(self) -> None:
        super().__init__("This link has expired or is not whole; ask for the export again to get another.")


class UnbalancedExport(FareboxError):
    """The sums of the rows are not those of the ledger."""

    code = "unbalanced_export"
