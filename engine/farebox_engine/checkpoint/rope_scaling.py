"""Settings of the ways to stretch rotary embeddings past the length a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from farebox_engine.checkpoint.fields import ConfigError, Fields

RopeKind = Literal["linear", "dynamic", "yarn", "longrope", "llama3", "proportional"]

# Older files say "su" for what was renamed "longrope".
_KIND_ALIASES = {"su": "longrope"}


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are scaled; fields that a kind does not use keep their defaults.

    ``original_max_position_embeddings`` is the trained length in tokens, before any stretching.
    ``short_factor`` and ``long_factor`` hold one divisor per frequency (longrope only).
    """

    kind: RopeKind
    original_max_position_embeddings: int
    factor: float = 1.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    rotated_share: float = 1.0

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError(
                f"high_freq_factor ({self.high_freq_factor:g}) must be above "
                f"low_freq_factor ({self.low_freq_factor:g})."
            )

    @classmethod
    def read(cls, fields: Fields, max_position: int, original: int | None, dims: int) -> RopeScaling | None:
        """Read ``rope_scaling`` or ``rope_parameters``; None when they ask for plain rotary embeddings.

        ``dims`` is how many dimensions of a head are rotated. ``original`` is the trained length
        where config.json gives it at the top level (Phi-3 does); it wins over the nested one, as in
        `transformers`.
        """
        name = fields.text("rope_type", default=fields.text("type", default="default"))
        kind = _KIND_ALIASES.get(name, name)
        if kind == "default":
            return None
        if kind not in get_args(RopeKind):
            raise ConfigError(f"rope type {kind!r} is not one of default, {', '.join(get_args(RopeKind))}.")
        trained = original or fields.optional_integer("original_max_position_embeddings", minimum=1)
        trained = trained or max_position
        frequencies = dims // 2 if kind == "longrope" else 0
        return cls(
            kind=cast(RopeKind, kind),
            original_max_position_embeddings=trained,
            factor=_read_factor(fields, kind, max_position / trained),
            attention_factor=fields.optional_number("attention_factor", above=0.0),
            beta_fast=fields.number("beta_fast", default=32.0, above=0.0),
            beta_slow=fields.number("beta_slow", default=1.0, above=0.0),
            mscale=fields.optional_number("mscale", above=0.0),
            mscale_all_dim=fields.optional_number("mscale_all_dim", above=0.0),
            truncate=fields.boolean("truncate", default=True),
            low_freq_factor=fields.number("low_freq_factor", default=1.0, above=0.0),
            high_freq_factor=fields.number("high_freq_factor", default=4.0, above=0.0),
            short_factor=fields.numbers("short_factor", length=frequencies) if frequencies else (),
            long_factor=fields.numbers("long_factor", length=frequencies) if frequencies else (),
            rotated_share=_read_share(fields) if kind == "proportional" else 1.0,
        )

    def to_dict(self) -> dict[str, object]:
        """Return the ``rope_scaling`` object of a config.json, with only the fields the kind knows."""
        common: dict[str, object] = {"rope_type": self.kind, "factor": self.factor}
        trained = {"original_max_position_embeddings": self.original_max_position_embeddings}
        match self.kind:
            case "linear" | "dynamic":
                return common
            case "proportional":
                return common | {"partial_rotary_factor": self.rotated_share}
            case "llama3":
                bands = {"low_freq_factor": self.low_freq_factor, "high_freq_factor": self.high_freq_factor}
                return common | trained | bands
            case "longrope":
                factors = {"short_factor": list(self.short_factor), "long_factor": list(self.long_factor)}
                return common | trained | factors | self._optional("attention_factor")
            case "yarn":
                ramp = {"beta_fast": self.beta_fast, "beta_slow": self.beta_slow, "truncate": self.truncate}
                return (
                    common | trained | ramp | self._optional("attention_factor", "mscale", "mscale_all_dim")
                )

    def _optional(self, *names: str) -> dict[str, object]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def _read_factor(fields: Fields, kind: str, implied: float) -> float:
    """The stretch; yarn and longrope may leave it to the ratio of the two lengths."""
    if kind in {"yarn", "longrope"}:
        return fields.number("factor", default=implied, above=0.0)
    if kind == "proportional":
        return fields.number("factor", default=1.0, above=0.0)
    return fields.number("factor", above=0.0)


def _read_share(fields: Fields) -> float:
    share = fields.number("partial_rotary_factor", default=1.0, above=0.0)
    if share > 1.0:
        raise ConfigError(f"partial_rotary_factor must be at most 1, not {share:g}.")
    return share
