"""A form as a page draws it: what stands in its fields, and what is wrong with which."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from farebox.core.errors import FareboxError
from farebox.dashboard.forms import FormError, Typed
from farebox.tenants.names import MAX_NAME_CHARACTERS

# A service speaks to programs and names a field as they do; a person sees the field itself.
_IN_A_PERSONS_WORDS = {"invalid_name": f"Write a name of 1 to {MAX_NAME_CHARACTERS} characters, on one line."}

_HIDDEN = {"token", "next"}


@dataclass(frozen=True, kw_only=True)
class FilledForm:
    """`faults` are by field. `error` belongs to no field; `status` and `headers` are the page's."""

    typed: Typed = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


EMPTY = FilledForm()


def refused(typed: Typed, error: FareboxError, kind: type[msgspec.Struct]) -> FilledForm:
    """What somebody typed and must mend. What is no fault of a field that can be seen is told above them."""
    faults = error.faults if isinstance(error, FormError) else _faults(error)
    seen = {*kind.__struct_fields__} - _HIDDEN
    at_fields = {name: words for name, words in faults.items() if name in seen}
    return FilledForm(
        typed=typed,
        faults=at_fields,
        error=None if at_fields else error.message,
        status=error.status,
        headers=error.headers,
    )


def _faults(error: FareboxError) -> dict[str, str]:
    return {error.param: _IN_A_PERSONS_WORDS.get(error.code or "", error.message)} if error.param else {}
