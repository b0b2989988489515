"""A checkpoint's tensors in the parameters of an encoder-decoder, whatever name they are stored under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.checkpoint.leftovers import without_leftovers
from farebox_engine.checkpoint.stored_names import stored_names
from farebox_engine.seq2seq.models.registry import Family


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], family: Family) -> None:
    """Copy a checkpoint's tensors into `module`, cast to its dtype.

    Raises:
        ConfigError: a tensor is missing, unknown, or of another shape than config.json implies.
    """
    parameters = dict(module.named_parameters())
    stored = _stored(tensors, {*parameters, *_aliases(family, parameters)}, family.prefix)
    unused = set(stored)
    with torch.no_grad():
        for name, parameter in parameters.items():
            names = (name, *family.aliases.get(name, ()))
            unused.difference_update(names)
            source = next((stored[each] for each in names if each in stored), None)
            if source is not None:
                _fill(parameter, source, tensors[source])
            elif name in family.optional:
                parameter.zero_()
            else:
                raise ConfigError(f"the checkpoint lacks the tensor {name}.")
    unused = without_leftovers(unused - set(family.ignored))
    if unused:
        raise ConfigError(f"the checkpoint holds a tensor this model has no place for: {min(unused)}.")


def refuse_untied(module: nn.Module, tensors: Mapping[str, Tensor], family: Family) -> None:
    """Refuse what `transformers` would not tie: two tensors, for one parameter, that differ.

    Raises:
        ConfigError: there are such.
    """
    parameters = dict(module.named_parameters())
    stored = _stored(tensors, {*parameters, *_aliases(family, parameters)}, family.prefix)
    for name, aliases in family.aliases.items():
        present = [stored[each] for each in (name, *aliases) if each in stored and each not in parameters]
        present = [stored[name], *present] if name in stored else present
        for other in present[1:]:
            if not torch.equal(tensors[present[0]], tensors[other]):
                raise ConfigError(
                    f"{present[0]} and {other} differ, but are one in this family; that is not supported."
                )


def _aliases(family: Family, parameters: Iterable[str]) -> Iterator[str]:
    for name in parameters:
        yield from family.aliases.get(name, ())


def _stored(tensors: Iterable[str], known: set[str], prefix: str) -> dict[str, str]:
    """Known names to the stored ones: as in `transformers`, a prefix may be there or not."""

    def standard(name: str) -> str:
        choices = (name, name.removeprefix(prefix), prefix + name)
        return next((each for each in choices if each in known), name)

    return stored_names(tensors, standard)


def _fill(parameter: nn.Parameter, source: str, tensor: Tensor) -> None:
    if tensor.shape != parameter.shape:
        raise ConfigError(
            f"{source} has shape {list(tensor.shape)}, but config.json implies {list(parameter.shape)}."
        )
    parameter.copy_(tensor)
