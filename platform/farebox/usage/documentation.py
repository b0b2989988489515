"""What the usage pages say of themselves in the API reference; see `core.openapi.documentation`."""

from decimal import Decimal

from farebox.core.errors import BadRequest
from farebox.core.openapi.documentation import SERVER_ERRORS, Content, Documentation, Reply
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey
from farebox.usage.errors import ReportTooLarge, ReportTooSlow
from farebox.usage.parameters import CompletionsParameters, CostsParameters
from farebox.usage.schemas import (
    Amount,
    CompletionsBucket,
    CompletionsPage,
    CompletionsResult,
    CostsBucket,
    CostsPage,
    CostsResult,
)

_MONDAY = 1763942400
_DAY = 86_400
_PROJECT = "proj_0199d3ef10b87c02935f6d2a9be4c771"
_NEXT_PAGE = "page_MTc2NDExNTIwMA"
_ERRORS = (
    BadRequest("`limit` must be at most 31 for `bucket_width` 1d.", param="limit", code="invalid_value"),
    BadRequest("Unsupported parameter: `colour`.", param="colour", code="unsupported_parameter"),
    BadRequest(
        "Missing required parameter: `start_time`.", param="start_time", code="missing_required_parameter"
    ),
    DuplicateHeader(),
    ReportTooLarge(),
    InvalidApiKey(),
    InsufficientScope("admin"),
    ReportTooSlow(),
    *SERVER_ERRORS,
)

COMPLETIONS_USAGE = Documentation(
    query=CompletionsParameters,
    values={"start_time": _MONDAY, "bucket_width": "1d", "group_by": ["project_id", "model"], "limit": 7},
    replies=[
        Reply(
            description="A page of buckets, oldest first.",
            contents=[
                Content(
                    kind=CompletionsPage,
                    examples={
                        "by project and model": CompletionsPage(
                            data=[
                                CompletionsBucket(
                                    start_time=_MONDAY,
                                    end_time=_MONDAY + _DAY,
                                    results=[
                                        CompletionsResult(
                                            input_tokens=48_210,
                                            output_tokens=9_377,
                                            input_cached_tokens=31_040,
                                            input_uncached_tokens=17_170,
                                            num_model_requests=412,
                                            project_id=_PROJECT,
                                            model="farebox-demo",
                                        )
                                    ],
                                ),
                                CompletionsBucket(
                                    start_time=_MONDAY + _DAY, end_time=_MONDAY + 2 * _DAY, results=[]
                                ),
                            ],
                            has_more=True,
                            next_page=_NEXT_PAGE,
                        )
                    },
                )
            ],
        )
    ],
    errors=_ERRORS,
    security="apiKey",
)

COSTS = Documentation(
    query=CostsParameters,
    values={"start_time": _MONDAY, "group_by": ["line_item"], "limit": 7},
    replies=[
        Reply(
            description="A page of days, oldest first.",
            contents=[
                Content(
                    kind=CostsPage,
                    examples={
                        "by line item": CostsPage(
                            data=[
                                CostsBucket(
                                    start_time=_MONDAY,
                                    end_time=_MONDAY + _DAY,
                                    results=[
                                        CostsResult(
                                            amount=Amount(Decimal("0.018754"), "usd"),
                                            line_item="farebox-demo, output_tokens",
                                            quantity=9_377,
                                            quantity_unit="tokens",
                                        )
                                    ],
                                )
                            ],
                            has_more=False,
                            next_page=None,
                        )
                    },
                )
            ],
        )
    ],
    errors=_ERRORS,
    security="apiKey",
)
