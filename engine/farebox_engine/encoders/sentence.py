"""The files with which sentence-transformers describes an embedding model or a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.checkpoint.files import weight_files
from farebox_engine.checkpoint.json_file import read_json_objects, read_optional_json
from farebox_engine.checkpoint.symlinks import refuse_escape
from farebox_engine.checkpoint.tensors import Tensors, load_module
from farebox_engine.encoders.models.pooling import Dense, Normalize, Pooling, SentenceHead

# The flags of older files, in the order in which their vectors stand side by side.
_FLAGS = {
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_max_tokens": Pooling.MAX,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": Pooling.MEAN_SQRT,
    "pooling_mode_weightedmean_tokens": Pooling.WEIGHTED_MEAN,
    "pooling_mode_lasttoken": Pooling.LAST,
}
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.nn.modules.activation.Tanh": torch.tanh,
    "torch.nn.modules.activation.Sigmoid": torch.sigmoid,
    "torch.nn.modules.activation.ReLU": torch.relu,
    "torch.nn.modules.activation.GELU": nn.functional.gelu,
    "torch.nn.modules.linear.Identity": lambda states: states,
}
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """What the files say beside the modules.

    ``max_length`` in tokens, None if unsaid. ``prompts`` are texts that go before an input, by name;
    ``default_prompt`` is the name of one. ``similarity`` is how the model's vectors are compared.
    ``score_activation`` turns a cross-encoder's logit into a score.
    """

    max_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"
    score_activation: Callable[[Tensor], Tensor] = torch.sigmoid


def read_settings(folder: Path, description: Mapping[str, object]) -> SentenceSettings:
    """Read sentence_bert_config.json and config_sentence_transformers.json; neither need be there.

    ``description`` is the content of config.json, where cross-encoders used to keep their activation.

    Raises:
        ConfigError, LoadError: a file is broken or asks for something else.
    """
    transformer = Fields(
        read_optional_json(folder / "sentence_bert_config.json"), "sentence_bert_config.json"
    )
    model_file = "config_sentence_transformers.json"
    model = Fields(read_optional_json(folder / model_file), model_file)
    prompts = model.mapping("prompts")
    texts = {} if prompts is None else {name: prompts.text(name, default="") for name in prompts.values}
    default = model.text("default_prompt_name", default="") or None
    if default is not None and default not in texts:
        raise ConfigError(f"{model_file}: default_prompt_name {default!r} is none of its prompts.")
    similarity = model.text("similarity_fn_name", default="cosine")
    if similarity not in _SIMILARITIES:
        raise ConfigError(f"{model_file}: similarity_fn_name must be one of {', '.join(_SIMILARITIES)}.")
    return SentenceSettings(
        max_length=transformer.optional_integer("max_seq_length", minimum=1),
        lower_case=transformer.boolean("do_lower_case", default=False),
        prompts=texts,
        default_prompt=default,
        similarity=similarity,
        score_activation=_score_activation(model, Fields(description, "config.json")),
    )


def read_head(folder: Path, hidden_size: int) -> SentenceHead:
    """The modules after the encoder, by modules.json; without one, the mean of the tokens' vectors.

    Raises:
        ConfigError, LoadError: a module is broken or of a kind that is not supported.
    """
    path = folder / "modules.json"
    if not path.exists():
        return SentenceHead([Pooling.MEAN], [], hidden_size)
    poolings: tuple[Pooling, ...] = ()
    layers: list[nn.Module] = []
    width = hidden_size
    for place, (kind, where) in enumerate(_modules(path)):
        settings = Fields(read_optional_json(where / "config.json"), f"{where.name}/config.json")
        if kind == "Transformer" and place == 0:
            continue
        if kind == "Pooling" and place == 1:
            poolings = _poolings(settings)
            width = hidden_size * len(poolings)
        elif kind == "Dense" and poolings:
            layers.append(_dense(where, settings, width))
            width = settings.integer("out_features", minimum=1)
        elif kind == "Normalize" and poolings:
            layers.append(Normalize())
        elif kind != "Dropout":
            raise ConfigError(f"modules.json: a {kind} module at place {place} is not supported.")
    return SentenceHead(poolings or [Pooling.MEAN], layers, width)


def _modules(path: Path) -> list[tuple[str, Path]]:
    """Class name and folder of each module. The classes are known here by name; none is imported."""
    found = []
    for entry in read_json_objects(path):
        kind, where = entry.get("type"), entry.get("path")
        if not isinstance(kind, str) or not isinstance(where, str):
            raise ConfigError("modules.json: each module needs a type and a path.")
        if not kind.startswith("sentence_transformers."):
            raise ConfigError(f"modules.json: {kind} is code of its own, which is never run.")
        if where and (Path(where).name != where or where == ".."):
            raise ConfigError(f"modules.json: {where!r} is no folder beside it.")
        refuse_escape(path.parent / where)
        found.append((kind.rpartition(".")[2], path.parent / where))
    return found


def _poolings(settings: Fields) -> tuple[Pooling, ...]:
    if not settings.boolean("include_prompt", default=True):
        raise ConfigError("a pooling that leaves the prompt out (include_prompt) is not supported.")
    named = settings.values.get("pooling_mode")
    if named is None:
        flagged = tuple(mode for flag, mode in _FLAGS.items() if settings.boolean(flag, default=False))
        return flagged or (Pooling.MEAN,)
    modes = named if isinstance(named, list) else [named]
    if not modes or not set(modes) <= set(Pooling):
        raise ConfigError(f"the pooling_mode {named!r} is not supported; known are {', '.join(Pooling)}.")
    return tuple(Pooling(str(mode)) for mode in modes)


def _dense(where: Path, settings: Fields, width: int) -> Dense:
    if settings.integer("in_features", minimum=1) != width:
        raise ConfigError(f"{where.name}: in_features must be {width}, the size of what comes before it.")
    other = settings.text("module_input_name", default="sentence_embedding") != "sentence_embedding"
    if other or settings.boolean("use_residual", default=False):
        raise ConfigError(f"{where.name}: only a plain dense layer on the pooled vector is supported.")
    activation = _activation(settings.text("activation_function", default="torch.nn.modules.activation.Tanh"))
    size, bias = settings.integer("out_features", minimum=1), settings.boolean("bias", default=True)
    with Tensors(weight_files(where)) as tensors:
        layer = load_module(
            lambda: Dense(width, size, bias=bias, activation=activation),
            partial(_fill, where.name),
            tensors,
            layers=1,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
    return cast(Dense, layer)


def _fill(where: str, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(layer.named_parameters())
    if tensors.keys() != parameters.keys():
        raise ConfigError(f"{where} must hold exactly {', '.join(parameters)}.")
    for name, parameter in parameters.items():
        tensor = tensors[name]
        if tensor.shape != parameter.shape:
            raise ConfigError(
                f"{where}: {name} has shape {list(tensor.shape)}, "
                f"but its config.json implies {list(parameter.shape)}."
            )
        parameter.detach().copy_(tensor)


def _score_activation(model: Fields, config: Fields) -> Callable[[Tensor], Tensor]:
    """Of a cross-encoder: in its own file since sentence-transformers 5, in config.json before."""
    nested = config.mapping("sentence_transformers")
    name = (
        model.text("activation_fn", default="")
        or ("" if nested is None else nested.text("activation_fn", default=""))
        or config.text("sbert_ce_default_activation_function", default="")
    )
    return _activation(name or "torch.nn.modules.activation.Sigmoid")


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in _ACTIVATIONS:
        raise ConfigError(f"the activation {name!r} is not supported; known are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]
