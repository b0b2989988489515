"""What the exports' routes read and write."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_LATEST = 253_370_764_800  # 9999-01-01
_Moment = Annotated[int, Meta(ge=0, le=_LATEST)]

Listing = Literal["usage", "cost"]
ExportFormat = Literal["csv", "jsonl", "parquet", "focus", "focus-1.3", "focus-jsonl", "focus-parquet"]
Status = Literal["queued", "running", "completed", "failed"]


class NewExport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for; times are Unix seconds, of whole hours."""

    listing: Listing
    format: ExportFormat
    start_time: _Moment
    end_time: _Moment | None = None
    rows_per_part: Annotated[int, Meta(ge=1_000, le=10_000)] = 10_000


class ExportedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part: what it holds, and a link that needs no key until it expires."""

    object: Literal["organization.export.part"] = "organization.export.part"
    name: str
    rows: int
    bytes: int
    sha256: str
    sums: dict[str, dict[str, str]]
    url: str
    expires_at: int


class ExportObject(msgspec.Struct, frozen=True, kw_only=True):
    """An export. `rows` and `sums` grow until it is completed; sums are decimals by currency."""

    object: Literal["organization.export"] = "organization.export"
    id: str
    listing: Listing
    format: ExportFormat
    start_time: int
    end_time: int
    rows_per_part: int
    status: Status
    rows: int
    parts: int
    sums: dict[str, dict[str, str]]
    failure: str | None
    created_at: int
    completed_at: int | None
    expires_at: int


class ExportWithParts(ExportObject, frozen=True, kw_only=True):
    """An export with the parts that are there, a thousand at most from `after_part` on."""

    files: list[ExportedPart]


class ExportPage(msgspec.Struct, frozen=True, kw_only=True):
    """An organization's exports, the newest first."""

    object: Literal["list"] = "list"
    data: list[ExportObject]


class PartsAfter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What GET of one export takes."""

    after_part: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Parts after this one.")] = 0


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a link to a part says of itself."""

    organization: Annotated[str, Meta(max_length=60, description="Whose it is.")]
    expires: Annotated[int, Meta(ge=0, le=_LATEST, description="Until when it opens, Unix seconds.")]
    signature: Annotated[str, Meta(max_length=100, description="The server's, over all of this.")]
