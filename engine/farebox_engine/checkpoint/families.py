"""Which family of models a checkpoint belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from farebox_engine.errors import LoadError

_Family = TypeVar("_Family")


@dataclass(frozen=True, slots=True)
class Families(Generic[_Family]):
    """The families of one kind of model, by their `model_type`. `kind` is their name in the plural."""

    kind: str
    known: Mapping[str, _Family]

    def include(self, description: Mapping[str, object]) -> bool:
        """Whether a config.json is that of one of these."""
        return description.get("model_type") in self.known

    def of(self, description: Mapping[str, object]) -> _Family:
        """The family that a config.json names.

        Raises:
            LoadError: it is none of those known.
        """
        model_type = description.get("model_type")
        family = self.known.get(str(model_type))
        if family is not None:
            return family
        code = " Code that comes with a checkpoint is never run." if description.get("auto_map") else ""
        known = ", ".join(sorted(self.known))
        raise LoadError(
            f"{self.kind} of type {model_type!r} are not supported; supported are: {known}.{code}"
        )
