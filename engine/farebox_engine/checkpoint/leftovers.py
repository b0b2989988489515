"""Tensors that exports carry along and nobody reads: buffers that the code computes for itself."""

from __future__ import annotations

import re

LEFTOVERS = r"(^|\.)(rotary_emb\.inv_freq|position_ids|masked_bias)$"


def without_leftovers(names: set[str], ignored: str = LEFTOVERS) -> set[str]:
    """Those of `names` that a model must have a place for."""
    return {name for name in names if not re.search(LEFTOVERS, name) and not re.search(ignored, name)}
