"""Reading forms: URL-encoded text into a struct, with bounds, before any service sees it."""

from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from litestar.connection import Request
from litestar.enums import RequestEncodingType

from farebox.core.errors import BadRequest, UnsupportedMediaType
from farebox.core.validation import fault_of

_MAX_FIELDS = 50

Line = Annotated[str, msgspec.Meta(max_length=1000)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2_000_000_000)]
Form = TypeVar("Form", bound=msgspec.Struct)


class SignUpForm(msgspec.Struct, frozen=True):
    name: Line
    organization: Line
    email: Line
    password: Line


class SignInForm(msgspec.Struct, frozen=True):
    email: Line
    password: Line
    next: Line = ""


class EmailForm(msgspec.Struct, frozen=True):
    email: Line


class LinkForm(msgspec.Struct, frozen=True):
    """The token of a mailed link, and a password."""

    token: Line
    password: Line


class KeyForm(msgspec.Struct, frozen=True):
    name: Line
    project: Line
    days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 365
    scope: Line = "inference"


class ProjectForm(msgspec.Struct, frozen=True):
    name: Line


class LimitsForm(msgspec.Struct, frozen=True, kw_only=True):
    """An empty field means: no limit, or for a project the operator's default."""

    monthly_cap: Decimal | None = None
    requests_per_minute: Whole | None = None
    tokens_per_minute: Whole | None = None
    concurrent_requests: Whole | None = None


async def read_form(request: Request[Any, Any, Any], kind: type[Form]) -> Form:
    """The form as `kind`; empty fields count as absent, unknown ones (the CSRF token) are left out.

    Raises BadRequest that names the field, UnsupportedMediaType for what is no URL-encoded form.
    """
    if request.content_type[0] != RequestEncodingType.URL_ENCODED:
        raise UnsupportedMediaType("This address takes an HTML form.", code="unsupported_media_type")
    form = await request.form()
    if len(form) > _MAX_FIELDS:
        raise BadRequest("The form has too many fields.", code="invalid_request")
    values = {name: text for name, text in form.items() if isinstance(text, str) and text.strip()}
    # A name, an address or a password may be wrong in its own way: its service says how.
    values = dict.fromkeys(_required_texts(kind), "") | values
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        fault = fault_of(error)
        field = fault.path.replace("_", " ") or "form"
        raise BadRequest(
            f"{field.capitalize()}: {fault.reason}.", code="invalid_value", param=field
        ) from None


def _required_texts(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.required and field.type is Line]
