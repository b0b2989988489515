"""The shape of an encoder and of its head, read from a Hugging Face ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.encoders.models.activations import ACTIVATIONS

_MOST_LABELS = 1 << 16


class Task(StrEnum):
    """What a checkpoint's head computes."""

    EMBED = "embed"  # one vector per input
    CLASSIFY = "classify"  # scores of labels per input; one label: also a score for reranking
    LABEL_TOKENS = "label_tokens"  # scores of labels per token


class Problem(StrEnum):
    """How the logits of a classifier become scores, in Hugging Face's words."""

    SINGLE = "single_label_classification"  # softmax
    MULTI = "multi_label_classification"  # a sigmoid each
    REGRESSION = "regression"  # as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What all encoders have. Lengths are counted in tokens, sizes in elements.

    ``position_rows`` is the number of learnt positions (0 for rotary ones), the first
    ``position_offset`` of which are never used. ``token_types`` is 0 or 1 where a model does not tell
    the parts of a pair apart. ``labels`` are in the order of the logits.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    activation: str
    norm_eps: float
    max_length: int
    position_rows: int = 0
    position_offset: int = 0
    token_types: int = 0
    initializer_range: float = 0.02
    labels: tuple[str, ...] = ()
    problem: Problem = Problem.SINGLE

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"the hidden size ({self.hidden_size}) must be a multiple of the number of attention heads "
                f"({self.num_heads})."
            )
        if self.activation not in ACTIVATIONS:
            known = ", ".join(sorted(ACTIVATIONS))
            raise ConfigError(f"the activation {self.activation!r} is not supported; supported are: {known}.")
        if self.max_length < 1:
            raise ConfigError("config.json leaves no position for a token.")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


def read_task(description: Mapping[str, object]) -> Task:
    """What the checkpoint was exported for, by the ``architectures`` of its config.json.

    Raises:
        ConfigError: for something that no encoder here computes.
    """
    architectures = description.get("architectures") or ["Model"]
    name = str(architectures[0]) if isinstance(architectures, list) else str(architectures)
    for ending, task in _TASKS.items():
        if name.endswith(ending):
            return task
    raise ConfigError(
        f"the architecture {name!r} is not supported; an encoder for embeddings, sequence classification "
        "or token classification is."
    )


def has_tied_head(description: Mapping[str, object]) -> bool:
    """Whether the checkpoint has a head for masked words whose matrix is that of its embedding."""
    architectures = description.get("architectures") or []
    endings = ("ForMaskedLM", "ForPreTraining")
    with_head = isinstance(architectures, list) and any(str(each).endswith(endings) for each in architectures)
    return with_head and description.get("tie_word_embeddings") is not False


_TASKS = {
    "ForSequenceClassification": Task.CLASSIFY,
    "ForTokenClassification": Task.LABEL_TOKENS,
    # Their head for masked words is left aside.
    "ForMaskedLM": Task.EMBED,
    "ForPreTraining": Task.EMBED,
    "Model": Task.EMBED,
}


def read_labels(fields: Fields) -> tuple[str, ...]:
    """The names of the labels in the order of the logits; as in `transformers`, two unless told otherwise."""
    names = fields.mapping("id2label")
    if names is None:
        count = fields.integer("num_labels", minimum=1, default=2)
        if count > _MOST_LABELS:
            raise ConfigError(f"config.json: num_labels is {count}; at most {_MOST_LABELS} are supported.")
        return tuple(f"LABEL_{number}" for number in range(count))
    # Some write numbers where names are meant.
    found = {key: str(value) for key, value in names.values.items() if isinstance(value, str | int | float)}
    expected = [str(number) for number in range(len(names.values))]
    if not found or sorted(found) != sorted(expected):
        raise ConfigError("config.json: id2label must name every label from 0 on.")
    return tuple(found[key] for key in expected)


def read_problem(fields: Fields, labels: tuple[str, ...]) -> Problem:
    """``problem_type``; without one, a single label has a sigmoid, as in `transformers`' pipelines."""
    name = fields.text("problem_type", default=Problem.SINGLE if len(labels) > 1 else Problem.MULTI)
    if name not in set(Problem):
        raise ConfigError(f"config.json: problem_type must be one of {', '.join(Problem)}, not {name!r}.")
    return Problem(name)
