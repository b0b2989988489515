"""Exchanging a model's linear layers for others that compute the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def replace_linears(
    model: nn.Module, make: Callable[[nn.Linear], nn.Module], skip: tuple[type[nn.Module], ...] = ()
) -> None:
    """Put what `make` returns in place of every `nn.Linear`, in place; the original weights are let go.

    Modules of the types `skip` keep their own linear layers. A head tied to an embedding leaves
    the embedding as it is.
    """
    # No list of the linear layers themselves: it would hold on to every weight until the last is replaced.
    parents = [each for each in model.modules() if not isinstance(each, (nn.Linear, *skip))]
    with torch.no_grad():
        for parent in parents:
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(parent, name, make(child))
