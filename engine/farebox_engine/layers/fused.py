"""Several projections of the same input as one matrix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


class FusedLinear(nn.Linear):
    """One matrix for several projections, so that the input is read once.

    ``parts`` names them, in the order of the rows, each with its number of outputs.
    """

    def __init__(self, in_features: int, parts: Mapping[str, int], *, bias: bool) -> None:
        super().__init__(in_features, sum(parts.values()), bias=bias)
        self.parts = dict(parts)
