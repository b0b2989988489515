"""What the engine asks of any decoder's configuration, and the fields most families share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypedDict

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.checkpoint.rope import Rope

__all__ = ["ConfigError", "DecoderConfig", "DecoderFields", "read_decoder", "read_layer_windows"]

_SILU = ("silu", "swish")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """A decoder's shape: all that cache, sizing, accounting and runner look at.

    Lengths are counted in tokens, sizes in elements. ``rope`` is ``None`` where positions are learned.
    ``windows`` holds for each layer how many tokens a query sees, its own included, ``None`` for all;
    it is empty where no layer has a window. ``idle_parameters`` are those a token does not meet: the
    experts it is not routed to. ``eos_token_ids`` holds every id that ends a generation, in the file's
    order. Families that need more inherit these fields and add their own.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    norm_eps: float = 1e-6
    rope: Rope | None = None
    windows: tuple[int | None, ...] = ()
    idle_parameters: int = 0
    tie_word_embeddings: bool = False
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads ({self.num_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_kv_heads})."
            )
        if self.rope is not None and self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embeddings, not {self.head_dim}.")

    @property
    def extensible(self) -> bool:
        """Whether positions past ``max_position_embeddings`` mean something to the model."""
        return self.rope is not None and self.rope.scaling is not None

    def window(self, layer: int) -> int | None:
        """How many tokens a query of ``layer`` sees, its own included; ``None`` for all."""
        return self.windows[layer] if self.windows else None


class DecoderFields(TypedDict):
    """The fields of `DecoderConfig` that `read_decoder` finds, for a family's own constructor."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    norm_eps: float
    rope: Rope
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]


def read_decoder(
    fields: Fields,
    model_type: str,
    architecture: str,
    *,
    activations: Collection[str] = _SILU,
    activation_field: str = "hidden_act",
    rope_fields: Fields | None = None,
    default_theta: float = 10_000.0,
    partial_rotary: bool = False,
    tied: bool = False,
) -> DecoderFields:
    """Read what the families after Llama have in common from ``config.json``.

    Takes both spellings of the rotary settings: ``rope_theta`` with ``rope_scaling`` (transformers 4)
    and ``rope_parameters`` (transformers 5); ``rope_fields`` stands for them where a family keeps
    several. The keyword arguments are what differs between families: `transformers`' defaults.

    Raises:
        ConfigError: a field is missing, has the wrong type or size, or asks for something this
            decoder does not compute; the message is one sentence that names the field.
    """
    refuse_other_models(fields, model_type, architecture)
    refuse_other_activations(fields, activation_field, activations)
    hidden_size = fields.integer("hidden_size", minimum=1)
    num_heads = fields.integer("num_attention_heads", minimum=1)
    max_position = fields.integer("max_position_embeddings", default=2048, minimum=1)
    head_dim = fields.optional_integer("head_dim", minimum=2)
    if head_dim is None and hidden_size % num_heads:
        raise ConfigError(
            f"hidden_size ({hidden_size}) must be a multiple of num_attention_heads ({num_heads})."
        )
    head_dim = head_dim or hidden_size // num_heads
    return DecoderFields(
        vocab_size=fields.integer("vocab_size", minimum=1),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size", minimum=1),
        num_layers=fields.layers("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=fields.optional_integer("num_key_value_heads", minimum=1) or num_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position,
        norm_eps=fields.number("rms_norm_eps", default=1e-6, above=0.0),
        rope=Rope.read(
            rope_fields or fields, max_position, head_dim, default_theta=default_theta, partial=partial_rotary
        ),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", default=tied),
        eos_token_ids=fields.token_ids("eos_token_id"),
    )


def read_layer_windows(
    fields: Fields, num_layers: int, window: int | None, sliding: Collection[int]
) -> tuple[int | None, ...]:
    """The window of each layer: by ``layer_types`` where the file has it, else ``window`` for ``sliding``.

    Raises:
        ConfigError: ``layer_types`` names another kind of attention or has another length.
    """
    names = fields.values.get("layer_types")
    if names is None:
        windows = tuple(window if layer in sliding else None for layer in range(num_layers))
    elif not isinstance(names, list) or len(names) != num_layers:
        raise ConfigError(f"layer_types must be a list of {num_layers} names, one per layer.")
    else:
        for name in names:
            if name not in ("full_attention", "sliding_attention"):
                raise ConfigError(f"layer_types names {name!r}, which is not supported.")
        windows = tuple(window if name == "sliding_attention" else None for name in names)
        if window is None and "sliding_attention" in names:
            raise ConfigError("layer_types has sliding_attention, but sliding_window is not set.")
    return windows if any(windows) else ()


def refuse_other_models(fields: Fields, model_type: str, architecture: str) -> None:
    """Refuse what would load but compute something else.

    Raises:
        ConfigError: another model type, or a head of another kind.
    """
    found = fields.text("model_type", default=model_type)
    if found != model_type:
        raise ConfigError(f"model_type {found!r} is not supported; it must be {model_type!r}.")
    architectures = fields.values.get("architectures")
    if architectures and architectures != [architecture]:
        raise ConfigError(f"architectures {architectures!r} are not supported; only {architecture!r} is.")


def refuse_other_activations(fields: Fields, name: str, known: Collection[str]) -> None:
    """Raises `ConfigError` if the feed-forward network uses another activation than one of ``known``."""
    default = next(iter(known))
    activation = fields.text(name, default=default)
    if activation not in known:
        raise ConfigError(f"{name} {activation!r} is not supported; it must be {default!r}.")


def refuse_settings(fields: Fields, **expected: object) -> None:
    """Refuse a setting that changes what is computed and that this family's code does not know.

    Absent and ``null`` are as good as ``expected``.

    Raises:
        ConfigError: a field has another value; the message names it.
    """
    for name, value in expected.items():
        found = fields.values.get(name)
        if found is not None and found != value:
            raise ConfigError(f"{name} {found!r} is not supported for this model; it must be {value!r}.")
