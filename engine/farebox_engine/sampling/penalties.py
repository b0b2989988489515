"""Which tokens a sequence has seen, kept so that penalties cost nothing per vocabulary entry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TokenCounts:
    """The distinct tokens of a sequence and how often each was generated; O(1) per token.

    Arrays rather than a dict, because every step hands them to the sampler whole.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        distinct = list(dict.fromkeys(prompt))
        self._index = {token: index for index, token in enumerate(distinct)}
        self._size = len(distinct)
        self._ids = np.zeros(max(64, 2 * self._size), dtype=np.int64)
        self._ids[: self._size] = distinct
        self._generated = np.zeros(len(self._ids), dtype=np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Distinct token ids of prompt and completion, int64 [D]."""
        return self._ids[: self._size]

    @property
    def generated(self) -> NDArray[np.float32]:
        """How often each of `ids` was generated (0 for those only in the prompt), fp32 [D]."""
        return self._generated[: self._size]

    def add(self, token: int) -> None:
        """Count a generated token."""
        index = self._index.get(token)
        if index is None:
            index = self._index[token] = self._size
            if index == len(self._ids):
                self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
                self._generated = np.concatenate((self._generated, np.zeros_like(self._generated)))
            self._ids[index] = token
            self._size += 1
        self._generated[index] += 1
