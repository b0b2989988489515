"""What a check of `farebox doctor` finds."""

from typing import Literal

import msgspec

State = Literal["ok", "warning", "failure"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the report; `mend` says what to do unless all is well."""

    check: str
    state: State
    detail: str
    mend: str | None = None
