"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864) and their scaling variants."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.checkpoint.rope import Rope
from farebox_engine.checkpoint.rope_scaling import RopeScaling


class RotaryEmbedding(nn.Module):
    """Turns positions into rotations.

    Two kinds of scaling, "dynamic" and "longrope", choose their frequencies by the length of the
    sequence a token belongs to; then `lengths_matter` is true and `forward` looks at ``lengths``.
    """

    def __init__(self, rope: Rope) -> None:
        """Raises `ConfigError` if the settings make no finite frequencies."""
        super().__init__()
        self._rope = rope
        # No buffer: a model cast to half precision or made on the meta device must keep these in fp32.
        with torch.device("cpu"):
            self._inv_freq, self._amplitude = _finite_frequencies(rope)

    @property
    def lengths_matter(self) -> bool:
        scaling = self._rope.scaling
        return scaling is not None and scaling.kind in {"dynamic", "longrope"}

    def forward(self, positions: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each fp32 [T, 1, rope.dims], for int64 positions [T].

        ``lengths`` int64 [T] is the length of each token's sequence, the whole prompt included while
        it is prefilled; by default each token is taken to be the last of its sequence.
        """
        # Angles of late positions lose all meaning in half precision, whatever the model's dtype.
        with torch.autocast(positions.device.type, enabled=False):
            angles = positions[:, None].float() * self._frequencies(positions, lengths)
            angles = torch.cat((angles, angles), dim=-1)[:, None, :]
            return angles.cos() * self._amplitude, angles.sin() * self._amplitude

    def _frequencies(self, positions: Tensor, lengths: Tensor | None) -> Tensor:
        if not self.lengths_matter:
            self._inv_freq = self._inv_freq.to(positions.device)
            return self._inv_freq
        lengths = positions + 1 if lengths is None else lengths
        distinct, index = torch.unique(self._frequency_class(lengths), return_inverse=True)
        rows = [rope_frequencies(self._rope, int(length))[0] for length in distinct.tolist()]
        return torch.stack(rows).to(positions.device)[index]

    def _frequency_class(self, lengths: Tensor) -> Tensor:
        """Map lengths that share frequencies to one representative, so that few rows are computed."""
        scaling = self._rope.scaling
        if scaling is not None and scaling.kind == "longrope":
            trained = scaling.original_max_position_embeddings
            return torch.where(lengths > trained, trained + 1, trained)
        return lengths.clamp(min=self._rope.max_position_embeddings)


def apply_rotary(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``states`` [T, heads, head_dim] by ``cos`` and ``sin`` [T, 1, dims]; keeps the dtype.

    Pairs are (i, i + dims/2), the order Hugging Face checkpoints are stored in. Dimensions past
    ``dims`` carry no position and stay as they are.
    """
    dims = cos.shape[-1]
    if dims < states.shape[-1]:
        rotated = apply_rotary(states[..., :dims], cos, sin)
        return torch.cat((rotated, states[..., dims:]), dim=-1)
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return states * cos.to(states.dtype) + turned * sin.to(states.dtype)


def rope_frequencies(rope: Rope, length: int) -> tuple[Tensor, float]:
    """Return the inverse frequencies, fp32 [rope.dims / 2], and the factor on cosines and sines.

    ``length`` is the sequence length in tokens; only "dynamic" and "longrope" look at it.
    """
    scaling = rope.scaling
    if scaling is None:
        return _plain(rope.theta, rope.dims), 1.0
    match scaling.kind:
        case "linear":
            return _plain(rope.theta, rope.dims) / scaling.factor, 1.0
        case "dynamic":
            return _dynamic(rope, scaling, length), 1.0
        case "yarn":
            return _yarn(rope, scaling), _yarn_amplitude(scaling)
        case "longrope":
            return _longrope(rope, scaling, length), _longrope_amplitude(scaling)
        case "llama3":
            return _llama3(rope, scaling), 1.0
        case "proportional":
            return _proportional(rope, scaling), 1.0


def _finite_frequencies(rope: Rope) -> tuple[Tensor, float]:
    """The frequencies at the longest length; settings within their bounds may still divide by zero."""
    try:
        frequencies, amplitude = rope_frequencies(rope, rope.max_position_embeddings)
    except ArithmeticError as error:
        raise ConfigError(f"the rotary settings make no finite frequencies ({error}).") from error
    if not (frequencies.isfinite().all() and math.isfinite(amplitude)):
        raise ConfigError("the rotary settings make no finite frequencies.")
    return frequencies, amplitude


def _plain(theta: float, dims: int) -> Tensor:
    return 1.0 / _wave_scale(theta, dims)


def _wave_scale(theta: float, dims: int) -> Tensor:
    """theta ** (2i / dims) in fp32, computed as `transformers` does so that angles agree to the bit."""
    return torch.pow(theta, torch.arange(0, dims, 2, dtype=torch.float32) / dims)


def _dynamic(rope: Rope, scaling: RopeScaling, length: int) -> Tensor:
    """Neural-tangent-kernel scaling: the base grows with the sequence past the trained length."""
    trained = rope.max_position_embeddings
    growth = scaling.factor * max(length, trained) / trained - (scaling.factor - 1)
    theta = rope.theta * growth ** (rope.dims / (rope.dims - 2))
    return _plain(theta, rope.dims)


def _yarn(rope: Rope, scaling: RopeScaling) -> Tensor:
    """YaRN (Peng et al. 2023, arXiv 2309.00071, section 3.2): interpolate slow waves, keep fast ones."""
    low = _wave_index(rope, scaling, scaling.beta_fast)
    high = _wave_index(rope, scaling, scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dims - 1)
    if low == high:
        high += 0.001
    index = torch.arange(rope.dims // 2, dtype=torch.float32)
    interpolated = ((index - low) / (high - low)).clamp(0, 1)
    plain = _plain(rope.theta, rope.dims)
    return plain / scaling.factor * interpolated + plain * (1 - interpolated)


def _wave_index(rope: Rope, scaling: RopeScaling, turns: float) -> float:
    """Index of the frequency that makes ``turns`` full turns within the trained length."""
    wavelength = scaling.original_max_position_embeddings / (turns * 2 * math.pi)
    return rope.dims * math.log(wavelength) / (2 * math.log(rope.theta))


def _yarn_amplitude(scaling: RopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        top = _yarn_mscale(scaling.factor, scaling.mscale)
        return top / _yarn_mscale(scaling.factor, scaling.mscale_all_dim)
    return _yarn_mscale(scaling.factor, 1.0)


def _yarn_mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _longrope(rope: Rope, scaling: RopeScaling, length: int) -> Tensor:
    """LongRoPE (Ding et al. 2024, arXiv 2402.13753): one searched divisor per frequency and range."""
    long = length > scaling.original_max_position_embeddings
    divisors = torch.tensor(scaling.long_factor if long else scaling.short_factor, dtype=torch.float32)
    return 1.0 / (divisors * _wave_scale(rope.theta, rope.dims))


def _longrope_amplitude(scaling: RopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.factor <= 1.0:
        return 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_max_position_embeddings))


def _llama3(rope: Rope, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: divide long waves by the factor, keep short ones, blend between the two bands."""
    plain = _plain(rope.theta, rope.dims)
    trained = scaling.original_max_position_embeddings
    wavelength = 2 * math.pi / plain
    band = scaling.high_freq_factor - scaling.low_freq_factor
    blend = ((trained / wavelength - scaling.low_freq_factor) / band).clamp(0, 1)
    return (1 - blend) * plain / scaling.factor + blend * plain


def _proportional(rope: Rope, scaling: RopeScaling) -> Tensor:
    """Rotate only the fastest share of the pairs; the others carry no position."""
    rotated = int(scaling.rotated_share * rope.dims // 2)
    inv_freq = _plain(rope.theta, rope.dims) / scaling.factor
    return torch.where(torch.arange(rope.dims // 2) < rotated, inv_freq, 0.0)
