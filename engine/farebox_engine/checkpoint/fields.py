"""Strict reading of JSON objects that come with a checkpoint: every field has a type and bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NoReturn

# Above any real model; keeps a hostile config.json from asking for petabytes before weights are seen.
_LARGEST_INTEGER = 2**31 - 1
# The deepest models known have a few hundred; each layer costs time before weights are seen.
_MOST_LAYERS = 4096


class ConfigError(ValueError):
    """A checkpoint's configuration cannot be used; the message is one sentence for its owner."""


class Fields:
    """Typed access to the fields of one JSON object. Absent and ``null`` mean the same."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self.values = values
        self._where = where

    def integer(self, name: str, *, minimum: int, default: int | None = None) -> int:
        value = self.optional_integer(name, minimum=minimum)
        if value is not None:
            return value
        return self._require(name) if default is None else default

    def layers(self, name: str, *, default: int | None = None) -> int:
        """How many layers a model has."""
        layers = self.integer(name, default=default, minimum=1)
        if layers > _MOST_LAYERS:
            self._refuse(name, f"must lie between 1 and {_MOST_LAYERS}, not {layers}")
        return layers

    def optional_integer(self, name: str, *, minimum: int) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        # JSON true is an int to Python, never to the author of a config.
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(name, f"must be an integer, not {value!r}")
        if not minimum <= value <= _LARGEST_INTEGER:
            self._refuse(name, f"must lie between {minimum} and {_LARGEST_INTEGER}, not {value}")
        return value

    def number(self, name: str, *, default: float | None = None, above: float) -> float:
        value = self.optional_number(name, above=above)
        if value is not None:
            return value
        return self._require(name) if default is None else default

    def optional_number(self, name: str, *, above: float) -> float | None:
        value = self.values.get(name)
        return None if value is None else self._finite(name, value, above)

    def numbers(self, name: str, *, length: int) -> tuple[float, ...]:
        """A list of exactly ``length`` positive numbers."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) != length:
            self._refuse(name, f"must be a list of {length} numbers")
        return tuple(self._finite(name, item, 0.0) for item in value)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._refuse(name, f"must be true or false, not {value!r}")
        return value

    def text(self, name: str, *, default: str) -> str:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self._refuse(name, f"must be a string, not {value!r}")
        return value

    def token_ids(self, name: str) -> tuple[int, ...]:
        """One token id or a list of them, as a tuple without repeats."""
        value = self.values.get(name)
        if value is None:
            return ()
        ids: dict[int, None] = {}
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool) or not isinstance(item, int) or item < 0:
                self._refuse(name, f"must be a token id or a list of them, not {value!r}")
            ids[item] = None
        return tuple(ids)

    def mapping(self, name: str) -> Fields | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._refuse(name, f"must be an object, not {value!r}")
        return Fields(value, name)

    def window(self, name: str, *, absent: int | None) -> int | None:
        """How many tokens a query sees, its own included; here ``null`` differs from absent: no window."""
        if name not in self.values:
            return absent
        return self.optional_integer(name, minimum=1)

    def softcap(self, name: str, *, absent: float) -> float | None:
        """A bound of scores; here ``null`` differs from absent: no bound."""
        return absent if name not in self.values else self.optional_number(name, above=0.0)

    def experts(self, name: str, other_name: str, *, default: int) -> tuple[int, int]:
        """How many experts there are, by either name, and how many of them a token is sent to."""
        experts = self.optional_integer(name, minimum=1)
        if experts is None:
            experts = self.integer(other_name, default=default, minimum=1)
        chosen = self.integer("num_experts_per_tok", minimum=1)
        if chosen > experts:
            self._refuse("num_experts_per_tok", f"is {chosen}, but there are only {experts} experts")
        return experts, chosen

    def _finite(self, name: str, value: object, above: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(name, f"must be a number, not {value!r}")
        if not math.isfinite(value) or value <= above:
            self._refuse(name, f"must be a finite number above {above:g}, not {value!r}")
        return float(value)

    def _require(self, name: str) -> NoReturn:
        raise ConfigError(f"{self._where}: {name} is missing.")

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise ConfigError(f"{self._where}: {name} {why}.")
