"""What the exports' routes say of themselves in the API reference; see `core.openapi.documentation`."""

from typing import Any

from farebox.billing.exports.errors import (
    ExportNotFound,
    ExportUnderWay,
    InvalidExport,
    LinkExpired,
    TooManyExports,
)
from farebox.billing.exports.schemas import (
    ExportedPart,
    ExportObject,
    ExportPage,
    ExportWithParts,
    Link,
    NewExport,
    PartsAfter,
)
from farebox.core.errors import BadRequest
from farebox.core.openapi.documentation import BODY_ERRORS, SERVER_ERRORS, Content, Documentation, Reply
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey

_ID = "export_0199d3f0b2c47e02935f6d2a9be4c771"
_ORGANIZATION = "org_0199d3ef10b87c02935f6d2a9be4c771"
_JANUARY, _FEBRUARY = 1767225600, 1769904000
_SUMS = {"USD": {"BilledCost": "250.00", "EffectiveCost": "187.204511"}}
_QUERY = {"organization": _ORGANIZATION, "expires": _FEBRUARY + 7200, "signature": "tNlYh0pVqM3…"}
_ERRORS = (DuplicateHeader(), InvalidApiKey(), InsufficientScope("admin"), *SERVER_ERRORS)

_SAID: dict[str, Any] = {
    "id": _ID,
    "listing": "cost",
    "format": "focus",
    "start_time": _JANUARY,
    "end_time": _FEBRUARY,
    "rows_per_part": 10_000,
    "failure": None,
    "created_at": _FEBRUARY + 3600,
    "expires_at": _FEBRUARY + 3600 + 604_800,
}
_QUEUED = ExportObject(**_SAID, status="queued", rows=0, parts=0, sums={}, completed_at=None)
_COMPLETED: dict[str, Any] = {**_SAID, "status": "completed", "rows": 4211, "parts": 1, "sums": _SUMS}
_COMPLETED["completed_at"] = _FEBRUARY + 3604
_PART = ExportedPart(
    name="cost-focus-000001.csv",
    rows=4211,
    bytes=1_893_402,
    sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    sums=_SUMS,
    url=f"https://models.example/v1/organization/exports/{_ID}/parts/1?organization={_ORGANIZATION}"
    f"&expires={_FEBRUARY + 7200}&signature=tNlYh0pVqM3…",
    expires_at=_FEBRUARY + 7200,
)

NEW_EXPORT = Documentation(
    request={
        "January in FOCUS": NewExport(listing="cost", format="focus", start_time=_JANUARY, end_time=_FEBRUARY)
    },
    fields={
        "listing": "`usage`: what was used; `cost`: that, and whatever else moved money.",
        "format": "The `focus` ones, of costs alone, are those of the FinOps Foundation.",
        "start_time": "Unix seconds of a whole hour, inclusive.",
        "end_time": "The same, exclusive; by default the newest hour that is over.",
        "rows_per_part": "A part has at most so many rows, a thousand or more, and two megabytes.",
    },
    replies=[
        Reply(
            status=202,
            description="It is noted for the worker.",
            contents=[Content(kind=ExportObject, examples={"queued": _QUEUED})],
        )
    ],
    errors=(
        *BODY_ERRORS,
        InvalidExport("Hours are exported when they are over: up to 2026-01-31T17:00:00Z.", param="end_time"),
        ExportUnderWay(2),
        TooManyExports(100, 5_000_000_000, 7),
        *_ERRORS,
    ),
    security="apiKey",
)

EXPORTS = Documentation(
    replies=[
        Reply(
            description="The newest first.",
            contents=[
                Content(
                    kind=ExportPage,
                    examples={"two": ExportPage(data=[_QUEUED, ExportObject(**_COMPLETED)])},
                )
            ],
        )
    ],
    errors=_ERRORS,
    security="apiKey",
)

EXPORT = Documentation(
    query=PartsAfter,
    values={"export_id": _ID, "after_part": 0},
    replies=[
        Reply(
            description="The export; its files are there when it is completed.",
            contents=[
                Content(
                    kind=ExportWithParts,
                    examples={"completed": ExportWithParts(**_COMPLETED, files=[_PART])},
                )
            ],
        )
    ],
    errors=(
        BadRequest("Unsupported parameter: `colour`.", param="colour", code="unsupported_parameter"),
        ExportNotFound(),
        *_ERRORS,
    ),
    security="apiKey",
)

EXPORT_PART = Documentation(
    query=Link,
    values={"export_id": _ID, "number": 1, **_QUERY},
    replies=[Reply(description="The part's bytes, in the export's format.")],
    errors=(
        BadRequest(
            "Missing required parameter: `signature`.", param="signature", code="missing_required_parameter"
        ),
        LinkExpired(),
        ExportNotFound(),
        *SERVER_ERRORS,
    ),
)
