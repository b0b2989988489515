"""A judge of parameters, made of the types that the `stripe` package publishes for them.

Types under `stripe.params` say which parameters a request takes, which of them it must have, and what
values they take. Stripe itself refuses all else, and so does this.
"""

import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

import typing_extensions as te
from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from stripe import RequestOptions

from tests.stripe_server.wire import forms
from tests.stripe_server.wire.errors import Json, StripeError, refused

_OPTIONS = frozenset(RequestOptions.__annotations__)
_INTEGER = re.compile(r"-?\d{1,18}")
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,12})?")
# Plain strings by their type, which an empty one takes away all the same.
_UNSETTABLE = {"CustomerUpdateParams": frozenset({"description", "email", "name", "phone"})}
_METADATA_KEYS, _METADATA_KEY_LENGTH, _METADATA_VALUE_LENGTH = 50, 40, 500


def _integer(value: object) -> int:
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise PydanticCustomError("parameter_invalid_integer", "Invalid integer: {value}", {"value": value})
    return int(value)


def _number(value: object) -> Decimal:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise PydanticCustomError("parameter_invalid_decimal", "Invalid decimal: {value}", {"value": value})
    return Decimal(value)


def _boolean(value: object) -> bool:
    if value not in ("true", "false"):
        raise PydanticCustomError("parameter_invalid_boolean", "Invalid boolean: {value}", {"value": value})
    return value == "true"


def _text(value: str) -> str:
    if value == "":
        raise PydanticCustomError(
            "parameter_invalid_empty",
            "You passed an empty string. We assume empty values are an attempt to unset a parameter; however "
            "this one cannot be unset. You should remove it from your request or supply a non-empty value.",
        )
    return value


def _array(value: object) -> list[Any]:
    if not isinstance(value, dict) or list(value) != [str(index) for index in range(len(value))]:
        raise PydanticCustomError("parameter_invalid_array", "Invalid array")
    return list(value.values())


def _metadata(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) > _METADATA_KEYS:
            raise PydanticCustomError("metadata_too_many", "Metadata can have up to 50 keys")
        for key, text in value.items():
            if len(key) > _METADATA_KEY_LENGTH or len(text) > _METADATA_VALUE_LENGTH:
                raise PydanticCustomError("metadata_too_long", "Metadata has a key or value that is too long")
    return value


_FROM_FORMS: dict[Any, Any] = {
    int: Annotated[int, BeforeValidator(_integer)],
    float: Annotated[Decimal, BeforeValidator(_number)],
    Decimal: Annotated[Decimal, BeforeValidator(_number)],
    bool: Annotated[bool, BeforeValidator(_boolean)],
    str: Annotated[str, AfterValidator(_text)],
}


@dataclass(frozen=True, eq=False)
class _Reading:
    """How values arrive: in forms all are strings and lists have numbered keys, JSON has types of its own."""

    scalars: dict[Any, Any]
    lists: Callable[[Any], Any]
    strict: bool


def _list_of(inner: Any) -> Any:
    return types.GenericAlias(list, (inner,))


_FORMS = _Reading(_FROM_FORMS, lambda inner: Annotated[_list_of(inner), BeforeValidator(_array)], False)
_JSON = _Reading({}, _list_of, True)


@cache
def _closed(declared: Any, reading: _Reading) -> Any:
    """A published TypedDict made to refuse what it does not name."""
    bare = type("Bare", (), {"__annotations__": _parameters(declared)})
    names = {**vars(typing), **vars(te), **vars(sys.modules[declared.__module__])}
    hints = te.get_type_hints(bare, include_extras=True, globalns=names)
    fields = {key: _field(declared, key, hint, reading) for key, hint in hints.items()}
    make: Any = te.TypedDict
    closed = make(declared.__name__, fields)
    closed.__pydantic_config__ = ConfigDict(extra="forbid", strict=reading.strict)
    return closed


def _parameters(declared: Any) -> dict[str, Any]:
    """Some of the types hold the client's own options too, which never travel."""
    return {key: hint for key, hint in declared.__annotations__.items() if key not in _OPTIONS}


def _field(declared: Any, key: str, hint: Any, reading: _Reading) -> Any:
    if te.get_origin(hint) in (te.NotRequired, te.Required):
        (hint,) = te.get_args(hint)
    unsettable = key in _UNSETTABLE.get(declared.__name__, frozenset())
    kind = str if unsettable else _exact(hint, reading)
    if key == "metadata":
        kind = Annotated[kind, AfterValidator(_metadata)]
    return te.Required[kind] if key in declared.__required_keys__ else te.NotRequired[kind]


def _exact(hint: Any, reading: _Reading) -> Any:
    origin = te.get_origin(hint)
    if te.is_typeddict(hint):
        return _closed(hint, reading)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_exact(choice, reading) for choice in _choices(hint))]  # noqa: UP007
    if origin is list:
        return reading.lists(_exact(te.get_args(hint)[0], reading))
    if origin is dict:
        key, value = te.get_args(hint)
        return types.GenericAlias(dict, (key, value if value is str else _exact(value, reading)))
    return reading.scalars.get(hint, hint)


def _choices(union: Any) -> list[Any]:
    """The package widens lists of literals by `str`, and hashes by a class: neither is Stripe's."""
    choices = [choice for choice in te.get_args(union) if "UntypedStripeObject" not in repr(choice)]
    listed = any(te.get_origin(choice) is te.Literal and te.get_args(choice) != ("",) for choice in choices)
    return [choice for choice in choices if not (listed and choice is str)]


@cache
def validator(declared: Any, *, json: bool = False) -> TypeAdapter[Json]:
    """The judge of one request's parameters. Takes what a form or, for v2, what JSON holds."""
    return TypeAdapter(_closed(declared, _JSON if json else _FORMS))


def judge(declared: Any, given: Json, *, json: bool = False) -> Json:
    """The parameters in their own types. Raises StripeError as Stripe would word it."""
    try:
        return validator(declared, json=json).validate_python(given)
    except ValidationError as error:
        raise _worded(given, error.errors(include_url=False)) from None


def _worded(given: Json, errors: list[ErrorDetails]) -> StripeError:
    """Of a union's many errors, that of the branch which came furthest."""
    paths = [_path(given, detail) for detail in errors]
    furthest = max(range(len(errors)), key=lambda index: len(paths[index]))
    detail, param = errors[furthest], forms.name(paths[furthest])
    match detail["type"]:
        case "extra_forbidden":
            return refused(f"Received unknown parameter: {param}", param=param, code="parameter_unknown")
        case "missing":
            return refused(f"Missing required param: {param}.", param=param, code="parameter_missing")
        case "literal_error":
            return refused(f"Invalid {param}: must be one of {detail['ctx']['expected']}", param=param)
        case kind:
            code = kind if kind.startswith("parameter_") else None
            return refused(f"{detail['msg']} ({param})", param=param, code=code)


def _path(given: Any, detail: ErrorDetails) -> list[str]:
    """Where in what was given: pydantic's own path has names of union branches between."""
    path: list[str] = []
    for part in map(str, detail["loc"]):
        if isinstance(given, list) and part.isdigit():
            given = given[int(part)]
        elif isinstance(given, dict) and part in given:
            given = given[part]
        elif detail["type"] != "missing" or part != str(detail["loc"][-1]):
            continue
        path.append(part)
    return path
