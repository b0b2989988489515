"""The shape of a decoder, read from and written to a Hugging Face ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from farebox_engine.config_fields import ConfigError, Fields
from farebox_engine.layers.rope_scaling import RopeScaling

__all__ = ["ConfigError", "DecoderConfig", "RopeScaling"]

_MODEL_TYPE = "llama"


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A decoder of the Llama family.

    Lengths are counted in tokens, sizes in elements. ``rope_scaling`` is ``None`` for plain rotary
    embeddings. ``eos_token_ids`` holds every id that ends a generation, in the file's order.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02
    dtype: str = "float32"
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads ({self.num_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_kv_heads})."
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embeddings, not {self.head_dim}.")

    @classmethod
    def from_dict(cls, config: Mapping[str, object]) -> DecoderConfig:
        """Read the content of a ``config.json``.

        Takes both spellings of the rotary settings: ``rope_theta`` with ``rope_scaling`` (transformers
        4) and ``rope_parameters`` (transformers 5).

        Raises:
            ConfigError: a field is missing, has the wrong type or size, or asks for something this
                decoder does not compute; the message is one sentence that names the field.
        """
        fields = Fields(config, "config.json")
        _refuse_other_models(fields)
        hidden_size = fields.integer("hidden_size", minimum=1)
        num_heads = fields.integer("num_attention_heads", minimum=1)
        max_position = fields.integer("max_position_embeddings", default=2048, minimum=1)
        head_dim = fields.optional_integer("head_dim", minimum=2)
        if head_dim is None and hidden_size % num_heads:
            raise ConfigError(
                f"hidden_size ({hidden_size}) must be a multiple of num_attention_heads ({num_heads})."
            )
        head_dim = head_dim or hidden_size // num_heads
        rope_theta, rope_scaling = _read_rope(fields, max_position, head_dim)
        return cls(
            vocab_size=fields.integer("vocab_size", minimum=1),
            hidden_size=hidden_size,
            intermediate_size=fields.integer("intermediate_size", minimum=1),
            num_layers=fields.integer("num_hidden_layers", minimum=1),
            num_heads=num_heads,
            num_kv_heads=fields.optional_integer("num_key_value_heads", minimum=1) or num_heads,
            head_dim=head_dim,
            rms_norm_eps=fields.number("rms_norm_eps", default=1e-6, above=0.0),
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            max_position_embeddings=max_position,
            tie_word_embeddings=fields.boolean("tie_word_embeddings", default=False),
            attention_bias=fields.boolean("attention_bias", default=False),
            mlp_bias=fields.boolean("mlp_bias", default=False),
            initializer_range=fields.number("initializer_range", default=0.02, above=0.0),
            dtype=fields.text("dtype" if "dtype" in config else "torch_dtype", default="float32"),
            bos_token_id=fields.optional_integer("bos_token_id", minimum=0),
            eos_token_ids=fields.token_ids("eos_token_id"),
            pad_token_id=fields.optional_integer("pad_token_id", minimum=-1),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the content of a ``config.json`` that `transformers` 4 and 5 both load."""
        config: dict[str, object] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": _MODEL_TYPE,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": None if self.rope_scaling is None else self.rope_scaling.to_dict(),
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "initializer_range": self.initializer_range,
            "torch_dtype": self.dtype,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self._eos_field(),
            "pad_token_id": self.pad_token_id,
        }
        return config

    def _eos_field(self) -> int | list[int] | None:
        if len(self.eos_token_ids) == 1:
            return self.eos_token_ids[0]
        return list(self.eos_token_ids) or None


def _refuse_other_models(fields: Fields) -> None:
    """Refuse what would load but compute something else."""
    model_type = fields.text("model_type", default=_MODEL_TYPE)
    if model_type != _MODEL_TYPE:
        raise ConfigError(f"model_type {model_type!r} is not supported; it must be {_MODEL_TYPE!r}.")
    activation = fields.text("hidden_act", default="silu")
    if activation not in {"silu", "swish"}:
        raise ConfigError(f"hidden_act {activation!r} is not supported; it must be 'silu'.")
    if "quantization_config" in fields.values:
        raise ConfigError("config.json has a quantization_config; quantized checkpoints are not supported.")


def _read_rope(fields: Fields, max_position: int, head_dim: int) -> tuple[float, RopeScaling | None]:
    """Return the rotary base and scaling; the newer spelling wins where a file holds both."""
    nested = fields.mapping("rope_parameters") or fields.mapping("rope_scaling")
    theta = fields.number("rope_theta", default=10_000.0, above=0.0)
    if nested is None:
        return theta, None
    theta = nested.number("rope_theta", default=theta, above=0.0)
    original = fields.optional_integer("original_max_position_embeddings", minimum=1)
    return theta, RopeScaling.read(nested, max_position, original, head_dim)
