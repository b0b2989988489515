"""Why a report is not made."""

from farebox.core.errors import BadRequest, FareboxError

MAX_RESULTS = 10_000


class ReportTooSlow(FareboxError):
    """The sums of so long a span take too long to add up; the same question would take as long again."""

    status = 503
    type = "service_unavailable"
    code = "report_too_slow"

    def __init__(self) -> None:
        super().__init__(
            "The report took too long; ask for a shorter span.", headers={"x-should-retry": "false"}
        )


class ReportTooLarge(BadRequest):
    """There are more results than a page may have."""

    code = "report_too_large"

    def __init__(self) -> None:
        super().__init__(
            f"The report has over {MAX_RESULTS:,} results; ask for fewer buckets or groups on a page.",
            param="limit",
        )
