"""Where the tensors of a Hugging Face checkpoint lie in the fused parameters here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.config import ConfigError
from farebox_engine.checkpoint.leftovers import LEFTOVERS, without_leftovers
from farebox_engine.checkpoint.stored_names import stored_names
from farebox_engine.layers.experts import Experts
from farebox_engine.layers.fused import FusedLinear
from farebox_engine.models.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Naming:
    """How a family's checkpoints name what its modules here hold.

    ``prefix`` stands before every name but the head's; ``renamed`` maps parts of module paths. A
    checkpoint that is ``fused`` keeps q, k and v as one tensor under the name of our module, and gate
    and up likewise. Matrices of modules named in ``transposed`` are stored as [in, out]. Tensors that
    match ``ignored``, and leftovers, are no weights.
    """

    prefix: str = "model."
    renamed: Mapping[str, str] = field(default_factory=dict)
    fused: bool = False
    transposed: frozenset[str] = frozenset()
    ignored: str = LEFTOVERS

    def of(self, path: str) -> str:
        """The checkpoint's name for a module or parameter path of ours."""
        parts = (self.renamed.get(part, part) for part in path.split("."))
        return ("" if path.startswith("lm_head.") else self.prefix) + ".".join(parts)

    def standard(self, stored: str) -> str:
        """A stored name as `of` spells it: as in `transformers`, one prefix is added or taken away."""
        rest = stored.removeprefix(self.prefix)
        if rest == stored:
            return stored if stored.startswith("lm_head.") else self.prefix + stored
        return rest if rest.startswith((self.prefix, "lm_head.")) else stored

    def stored(self, names: Iterable[str]) -> dict[str, str]:
        """Standard names to the stored ones; raises `ConfigError` if two of them stand for one."""
        return stored_names(names, self.standard)


LLAMA_NAMING = Naming()
_HEAD, _EMBEDDING = "lm_head.weight", "embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows ``start`` to ``stop`` of parameter ``name``, where one tensor of the checkpoint goes."""

    name: str
    start: int
    stop: int
    expert: int | None = None
    transposed: bool = False

    def view(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """The place itself, in the shape of the checkpoint's tensor, without gradient."""
        whole = parameters[self.name].detach()
        rows = (whole if self.expert is None else whole[self.expert])[self.start : self.stop]
        return rows.t() if self.transposed else rows


def weight_slots(
    model: nn.Module, naming: Naming = LLAMA_NAMING, present: Mapping[str, object] | None = None
) -> dict[str, Slot]:
    """Map every tensor name of a Hugging Face checkpoint to its place in ``model``.

    A tied ``lm_head.weight`` is absent: the embedding stands for it. Experts are named one by one,
    or as one tensor where ``present`` holds that.
    """
    slots: dict[str, Slot] = {}
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        path, _, kind = name.rpartition(".")
        module = modules[path]
        if isinstance(module, Experts):
            slots |= _expert_slots(module, name, naming, present or {})
        elif isinstance(module, FusedLinear) and not naming.fused:
            parent = path.rpartition(".")[0]
            for part, (start, stop) in _rows(module.parts).items():
                slots[naming.of(f"{parent}.{part}.{kind}")] = Slot(name, start, stop)
        else:
            transposed = kind == "weight" and path.rpartition(".")[2] in naming.transposed
            slots[naming.of(name)] = Slot(name, 0, parameter.shape[0], transposed=transposed)
    return slots


def load_weights(model: Decoder, tensors: Mapping[str, Tensor], naming: Naming = LLAMA_NAMING) -> None:
    """Copy a checkpoint's tensors into ``model``, cast to the model's dtype.

    A tied embedding may be stored under the head's name alone.

    Raises:
        ConfigError: a tensor is missing, unknown, or of another shape than config.json implies.
    """
    stored = naming.stored(tensors)
    if model.config.tie_word_embeddings:
        head = stored.pop(_HEAD, None)
        if head is not None:
            stored.setdefault(naming.of(_EMBEDDING), head)
    slots = weight_slots(model, naming, stored)
    unused = without_leftovers(stored.keys() - slots.keys(), naming.ignored)
    if unused:
        raise ConfigError(
            f"the checkpoint holds a tensor this model has no place for: {stored[min(unused)]}."
        )
    missing = slots.keys() - stored.keys()
    if missing:
        raise ConfigError(f"the checkpoint lacks the tensor {min(missing)}.")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for source, slot in slots.items():
            target, tensor = slot.view(parameters), tensors[stored[source]]
            if tensor.shape != target.shape:
                raise ConfigError(
                    f"{source} has shape {list(tensor.shape)}, but config.json implies {list(target.shape)}."
                )
            target.copy_(tensor)


def has_own_head(tensors: Mapping[str, Tensor], naming: Naming = LLAMA_NAMING) -> bool:
    """Whether a head is stored that differs from the embedding; then `transformers` does not tie them."""
    stored = naming.stored(tensors)
    head, embedding = stored.get(_HEAD), stored.get(naming.of(_EMBEDDING))
    return head is not None and embedding is not None and not torch.equal(tensors[head], tensors[embedding])


def named_weights(model: nn.Module, naming: Naming = LLAMA_NAMING) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of ``model`` under their Hugging Face names, as views without gradient."""
    parameters = dict(model.named_parameters())
    for source, slot in weight_slots(model, naming).items():
        yield source, slot.view(parameters)


def _rows(parts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Where each part begins and ends."""
    rows, start = {}, 0
    for part, length in parts.items():
        rows[part] = (start, start + length)
        start += length
    return rows


def _expert_slots(
    experts: Experts, name: str, naming: Naming, present: Mapping[str, object]
) -> dict[str, Slot]:
    """The places of one matrix of every expert.

    transformers 5 holds them as one tensor and may save that (``save_original_format=False``); its
    default, and all of transformers 4, is a tensor per expert.
    """
    path, _, matrix = name.rpartition(".")
    together = naming.of(name)
    if together in present:
        return {together: Slot(name, 0, experts.num_experts)}
    if present and experts.num_experts > len(present):
        raise ConfigError(
            f"config.json asks for {experts.num_experts} experts, but the checkpoint has only "
            f"{len(present)} tensors."
        )
    return {
        naming.of(f"{path}.{expert}.{part}.weight"): Slot(name, start, stop, expert)
        for expert in range(experts.num_experts)
        for part, (start, stop) in _rows(experts.parts[matrix]).items()
    }
