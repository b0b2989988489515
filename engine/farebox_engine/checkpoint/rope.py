"""Which rotary position embedding a decoder uses (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.checkpoint.rope_scaling import RopeScaling

_SETTINGS = {"rope_type", "type", "rope_theta", "partial_rotary_factor"} | {
    field.name for field in dataclass_fields(RopeScaling)
}


@dataclass(frozen=True, slots=True)
class Rope:
    """Base ``theta``, how many ``dims`` of a head are rotated, and how frequencies are scaled.

    ``max_position_embeddings`` is the length in tokens that the model is meant for; ``scaling`` is
    ``None`` for plain rotary embeddings.
    """

    dims: int
    max_position_embeddings: int
    theta: float = 10_000.0
    scaling: RopeScaling | None = None

    @classmethod
    def read(
        cls,
        fields: Fields,
        max_position: int,
        head_dim: int,
        *,
        default_theta: float = 10_000.0,
        partial: bool = False,
    ) -> Rope:
        """Read the rotary settings of ``fields``; the newer spelling wins where a file holds both.

        ``partial`` is whether the family knows ``partial_rotary_factor``, the share of a head that is
        rotated.

        Raises:
            ConfigError: a setting is malformed or not supported.
        """
        theta = fields.number("rope_theta", default=default_theta, above=0.0)
        share = fields.number("partial_rotary_factor", default=1.0, above=0.0)
        nested = fields.mapping("rope_parameters") or fields.mapping("rope_scaling")
        if nested is None:
            return cls(_rotated(head_dim, share, partial), max_position, theta)
        if any(isinstance(value, dict) for value in nested.values.values()):
            raise ConfigError("rope_parameters by layer type are not supported for this model.")
        unknown = nested.values.keys() - _SETTINGS
        if unknown:
            raise ConfigError(f"the rotary setting {min(unknown)} is not supported.")
        theta = nested.number("rope_theta", default=theta, above=0.0)
        if nested.text("rope_type", default=nested.text("type", default="")) != "proportional":
            share = nested.number("partial_rotary_factor", default=share, above=0.0)
        dims = _rotated(head_dim, share, partial)
        original = fields.optional_integer("original_max_position_embeddings", minimum=1)
        return cls(dims, max_position, theta, RopeScaling.read(nested, max_position, original, dims))


def _rotated(head_dim: int, share: float, partial: bool) -> int:
    dims = int(head_dim * share)
    if share != 1.0 and (not partial or share > 1.0 or dims < 2 or dims % 2):
        raise ConfigError(
            f"partial_rotary_factor {share:g} is not supported for this model with heads of {head_dim}."
        )
    return dims
