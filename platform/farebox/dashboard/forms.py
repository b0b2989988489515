"""Reading forms: URL-encoded text into a struct, with bounds, before any service sees it."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from litestar.connection import Request
from litestar.enums import RequestEncodingType

from farebox.core.errors import BadRequest, UnsupportedMediaType
from farebox.core.money import read_plain
from farebox.limits.service import MAX_LIMIT, Ceilings

Line = Annotated[str, msgspec.Meta(max_length=1000)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT)]
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


class TopUpForm(msgspec.Struct, frozen=True, kw_only=True):
    """A box that is not ticked is absent."""

    amount: Decimal | None = None
    save_payment_method: Line = ""


class AutoTopUpForm(msgspec.Struct, frozen=True, kw_only=True):
    enabled: Line = ""
    threshold: Decimal | None = None
    amount: Decimal | None = None
    monthly_ceiling: Decimal | None = None


Typed = Mapping[str, str]
# What a field takes, for people who typed something else; of the others they are told that it is too long.
Advice = Mapping[str, str]
ADVICE: Advice = {"days": "Choose a number of days from 1 to 3,650."}
_TOO_LONG = "Write at most 1,000 characters."


def limits_advice(ceilings: Ceilings) -> Advice:
    """What each limit may be: the operator's ceilings are told with it, since nobody else knows them."""
    names = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")
    cap = f"Write an amount like 25.00, at most {MAX_LIMIT:,}.00, or leave the field empty."
    return {"monthly_cap": cap} | {name: _whole(ceilings.most_of(name)) for name in names}


def _whole(most: int) -> str:
    return f"Write a whole number from 0 to {most:,} in digits alone, or leave the field empty."


class FormError(BadRequest):
    """What is wrong with which fields, in words for people."""

    code = "invalid_value"

    def __init__(self, faults: Mapping[str, str]) -> None:
        name, advice = next(iter(faults.items()))
        super().__init__(f"{name.replace('_', ' ').capitalize()}: {advice}", param=name)
        self.faults = faults


async def read_typed(request: Request[Any, Any, Any]) -> Typed:
    """What was typed, by field; empty fields count as absent.

    Raises UnsupportedMediaType for what is no URL-encoded form, and as `StrictRequest.form`.
    """
    if request.content_type[0] != RequestEncodingType.URL_ENCODED:
        raise UnsupportedMediaType("This address takes an HTML form.", code="unsupported_media_type")
    form = await request.form()
    return {name: text for name, text in form.items() if isinstance(text, str) and text.strip()}


def _anything(_name: str, _value: Any) -> bool:
    return True


def fill_in(
    typed: Typed,
    kind: type[Form],
    advice: Advice = ADVICE,
    allows: Callable[[str, Any], bool] = _anything,
) -> Form:
    """The form as `kind`; unknown fields (the CSRF token) are left out.

    `allows` judges what was read, by field. Raises FormError that names every field at fault.
    """
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        # A name, an address or a password may be wrong in its own way: its service says how.
        if field.name not in typed and not (field.required and field.type is Line):
            continue
        try:
            value = _read(field, typed.get(field.name, ""))
            if not allows(field.name, value):
                raise ValueError(value)
        except ValueError:  # msgspec's own is one
            faults[field.name] = advice.get(field.name, _TOO_LONG)
        else:
            values[field.name] = value
    if faults:
        raise FormError(faults)
    return kind(**values)


def _read(field: msgspec.structs.FieldInfo, text: str) -> Any:
    """Raises ValueError."""
    if field.type is Line:
        return msgspec.convert(text, field.type)
    if field.type != Decimal | None:
        return msgspec.convert(text.strip(), field.type, strict=False)
    return read_plain(text.strip())
