"""peft's adapter_config.json: what is computed here is read, what would compute something else refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from farebox_engine.checkpoint.fields import ConfigError, Fields

FILE_NAME = "adapter_config.json"

# They say where an adapter comes from or how it was trained, not what it computes.
_IRRELEVANT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "inference_mode",
        "layers_pattern",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)
_READ = frozenset(
    {
        "bias",
        "exclude_modules",
        "fan_in_fan_out",
        "init_lora_weights",
        "layers_to_transform",
        "lora_alpha",
        "peft_type",
        "r",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
# The other ways of initialising (PiSSA, OLoRA, CorDA, LoftQ) take something out of the base model's weights.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva")
_LARGEST_RANK = 4096
ALL_LINEAR = "all-linear"


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """`targets` are names of modules or ends of their paths, `None` for whatever the file holds."""

    rank: int
    scale: float
    targets: frozenset[str] | None
    excluded: frozenset[str]
    layers: frozenset[int] | None
    transposed: bool

    def covers(self, path: str, layer: int) -> bool:
        """Whether the module at `path`, in the checkpoint's naming, has an adapter."""
        if self.layers is not None and layer not in self.layers:
            return False
        if _ends_with_one_of(path, self.excluded):
            return False
        return self.targets is None or _ends_with_one_of(path, self.targets)


def read_lora(description: Mapping[str, object]) -> LoraConfig:
    """Read the content of an ``adapter_config.json``.

    Raises:
        ConfigError: a field is missing, of the wrong type, or asks for something that is not
            computed here; one sentence that names it.
    """
    fields = Fields(description, FILE_NAME)
    _refuse_others(fields)
    rank = fields.integer("r", minimum=1)
    if rank > _LARGEST_RANK:
        raise ConfigError(f"{FILE_NAME}: r is {rank}; at most {_LARGEST_RANK} is supported.")
    alpha = fields.number("lora_alpha", default=8.0, above=0.0)
    # Rank-stabilised LoRA: Kalajdzievski 2023, arXiv 2312.03732.
    stabilised = fields.boolean("use_rslora", default=False)
    return LoraConfig(
        rank=rank,
        scale=alpha / (math.sqrt(rank) if stabilised else rank),
        targets=_targets(fields),
        excluded=_names(fields, "exclude_modules") or frozenset(),
        layers=_layers(fields),
        transposed=fields.boolean("fan_in_fan_out", default=False),
    )


def _refuse_others(fields: Fields) -> None:
    expected: dict[str, tuple[object, ...]] = {
        "peft_type": ("LORA",),
        "task_type": (None, "CAUSAL_LM"),
        "bias": (None, "none"),
        "init_lora_weights": _PLAIN_STARTS,
    }
    for name, known in expected.items():
        found = fields.values.get(name)
        # 1 equals True, but no exporter writes it.
        if not any(found == each and type(found) is type(each) for each in known):
            raise ConfigError(f"{FILE_NAME}: {name} {found!r} is not supported; it must be {known[-1]!r}.")
    for name, value in fields.values.items():
        # Newer peft adds switches; one that is on and unknown here may change what is computed.
        if value and name not in _IRRELEVANT and name not in _READ:
            raise ConfigError(f"{FILE_NAME}: {name} is set, which is not supported; train without it.")


def _targets(fields: Fields) -> frozenset[str] | None:
    if fields.values.get("target_modules") == ALL_LINEAR:
        return None
    names = _names(fields, "target_modules")
    if not names:
        raise ConfigError(f"{FILE_NAME}: target_modules is missing or empty.")
    return names


def _names(fields: Fields, name: str) -> frozenset[str] | None:
    value = fields.values.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        raise ConfigError(f"{FILE_NAME}: {name} is a regular expression; list the modules' names instead.")
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{FILE_NAME}: {name} must be a list of names, not {value!r}.")
    return frozenset(value)


def _layers(fields: Fields) -> frozenset[int] | None:
    value = fields.values.get("layers_to_transform")
    if value is None:
        return None
    layers = value if isinstance(value, list) else [value]
    if not layers or not all(isinstance(each, int) and not isinstance(each, bool) for each in layers):
        raise ConfigError(f"{FILE_NAME}: layers_to_transform must list layers' numbers, not {value!r}.")
    return frozenset(layers)


def _ends_with_one_of(path: str, names: frozenset[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)
