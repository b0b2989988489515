"""The query parameters of the usage pages: every one bounded, an unknown one refused by its name."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from litestar.connection import Request
from msgspec import Meta

from farebox.core.errors import BadRequest, NotFound
from farebox.core.ids import internal
from farebox.core.validation import fault_of

WIDTHS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}
_DEFAULT_LIMITS = {"1m": 60, "1h": 24, "1d": 7}
_MAX_LIMITS = {"1m": 1440, "1h": 168, "1d": 31}
_LATEST = 253_370_764_800  # 9999-01-01: the longest page from there ends before datetime does

# No NUL, which Postgres refuses.
_Name = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
_Names = Annotated[list[_Name], Meta(max_length=100)]
_Moment = Annotated[int, Meta(ge=0, le=_LATEST)]


class CompletionsParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What GET /v1/organization/usage/completions takes; times are Unix seconds."""

    start_time: Annotated[_Moment, Meta(description="Start of the range, Unix seconds, inclusive.")]
    end_time: Annotated[
        _Moment | None, Meta(description="End of the range, Unix seconds, exclusive; by default now.")
    ] = None
    bucket_width: Annotated[Literal["1m", "1h", "1d"], Meta(description="Width of a bucket, in UTC.")] = "1d"
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "model"]],
        Meta(max_length=4, description="Split each bucket by these."),
    ] = []
    project_ids: Annotated[_Names, Meta(description="Only usage of these projects.")] = []
    user_ids: Annotated[_Names, Meta(description="Only usage of keys held by these users.")] = []
    api_key_ids: Annotated[_Names, Meta(description="Only usage of these keys.")] = []
    models: Annotated[_Names, Meta(description="Only usage of these models.")] = []
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=1440)] | None,
        Meta(description="Buckets on a page. 1d: 7 up to 31; 1h: 24 up to 168; 1m: 60 up to 1440."),
    ] = None
    page: Annotated[_Name | None, Meta(description="`next_page` of the answer before.")] = None

    def page_limit(self) -> int:
        """Buckets on a page. Raises BadRequest where this width allows fewer."""
        largest = _MAX_LIMITS[self.bucket_width]
        if self.limit is not None and self.limit > largest:
            raise _invalid("limit", f"must be at most {largest} for `bucket_width` {self.bucket_width}")
        return self.limit or _DEFAULT_LIMITS[self.bucket_width]


class CostsParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What GET /v1/organization/costs takes; times are Unix seconds."""

    start_time: Annotated[_Moment, Meta(description="Start of the range, Unix seconds, inclusive.")]
    end_time: Annotated[
        _Moment | None, Meta(description="End of the range, Unix seconds, exclusive; by default now.")
    ] = None
    bucket_width: Annotated[Literal["1d"], Meta(description="Width of a bucket: a day in UTC.")] = "1d"
    group_by: Annotated[
        list[Literal["project_id", "user_id", "api_key_id", "line_item"]],
        Meta(max_length=4, description="Split each day by these."),
    ] = []
    project_ids: Annotated[_Names, Meta(description="Only costs of these projects.")] = []
    api_key_ids: Annotated[_Names, Meta(description="Only costs of these keys.")] = []
    line_items: Annotated[_Names, Meta(description="Only these, e.g. `my-model, output_tokens`.")] = []
    limit: Annotated[int, Meta(ge=1, le=180, description="Days on a page.")] = 7
    page: Annotated[_Name | None, Meta(description="`next_page` of the answer before.")] = None


Parameters = TypeVar("Parameters", bound=msgspec.Struct)


def parse(request: Request[Any, Any, Any], kind: type[Parameters]) -> Parameters:
    """The request's query string as `kind`; a list is spelled `name=a&name=b` or `name[]=a&name[]=b`.

    Raises BadRequest that names the parameter at fault.
    """
    lists = {field.name for field in msgspec.structs.fields(kind) if field.default_factory is list}
    values: dict[str, Any] = {}
    for spelled, text in request.query_params.multi_items():
        name = spelled.removesuffix("[]")
        if name in lists:
            values.setdefault(name, []).append(text)
        elif spelled not in kind.__struct_fields__:
            raise BadRequest(
                f"Unsupported parameter: `{spelled[:60]}`.", param=spelled[:60], code="unsupported_parameter"
            )
        elif name in values:
            raise _invalid(name, "must be given once")
        else:
            values[name] = text
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _translate(error) from None


def uuids(name: str, prefix: str, texts: list[str]) -> list[UUID]:
    """The ids behind a filter. Raises BadRequest naming it for what is no id of that kind."""
    try:
        return [internal(prefix, text) for text in texts]
    except NotFound:
        raise _invalid(name, f"must hold ids that begin with `{prefix}_`") from None


def _translate(error: msgspec.ValidationError) -> BadRequest:
    fault = fault_of(error)
    if fault.kind == "missing":
        return BadRequest(
            f"Missing required parameter: `{fault.path}`.",
            param=fault.path,
            code="missing_required_parameter",
        )
    name = re.split(r"\W", fault.path)[0]
    return _invalid(name, f"is wrong: {fault.reason}")


def _invalid(name: str, what: str) -> BadRequest:
    return BadRequest(f"`{name}` {what}.", param=name, code="invalid_value")
