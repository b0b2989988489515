"""One answer's way through its grammar, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from llguidance import LLMatcher
from numpy.typing import NDArray
from torch import Tensor

# By what llguidance says of each of the limits that are checked while an answer grows; these have no codes.
_OBSTACLES = {
    "Too many items": (
        "The grammar became too ambiguous in mid-answer: too many rules could go on at once. Write words as "
        "one terminal each instead of letter by letter, and have fewer alternatives that begin alike."
    ),
    "Current row has": (
        "The grammar became too deeply recursive in mid-answer. Make right-recursive rules left-recursive "
        "or use `+` and `*`, and have fewer alternatives that begin alike."
    ),
    "lexer error": (
        "The regular expressions of the grammar became too large in mid-answer. Shorten counted repetitions "
        "such as `{1000}`, and split long expressions up into rules."
    ),
    "NoExtensionBias": (
        "The grammar came to a dead end in mid-answer: nothing can follow what was written so far. Look for "
        "`&` and `~` that exclude all there is."
    ),
}


class Matcher:
    """Where one answer stands in its grammar. Not safe for use from two threads."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    @property
    def ended(self) -> bool:
        """Whether nothing can follow but the end of the answer, or it has `failed`."""
        return self._matcher.is_stopped()

    @property
    def failed(self) -> bool:
        """Whether it cannot say any more what may come next. What `fill` set then is of no meaning."""
        return self._matcher.is_error()

    @property
    def obstacle(self) -> str | None:
        """What in its grammar made it fail and how to mend that; None where the fault is the parser's own."""
        failure = self._matcher.get_error()
        return next((sentence for mark, sentence in _OBSTACLES.items() if mark in failure), None)

    def fill(self, mask: NDArray[np.int32]) -> None:
        """Set the bits of the tokens that may come next in `mask`, int32 [vocab / 32, rounded up]."""
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)

    def accept(self, token: int) -> None:
        """Step past the token that was chosen."""
        self._matcher.consume_token(token)


def apply_grammars(logits: Tensor, matchers: Sequence[tuple[int, Matcher]]) -> None:
    """Exclude in `logits` [N, vocab] what the matchers of some rows do not allow next."""
    vocab = logits.shape[1]
    masks = np.zeros((len(matchers), -(-vocab // 32)), dtype=np.int32)
    for mask, (_, matcher) in zip(masks, matchers, strict=True):
        matcher.fill(mask)
    allowed = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")[:, :vocab]
    rows = torch.tensor([row for row, _ in matchers], device=logits.device)
    excluded = torch.from_numpy(allowed == 0).to(logits.device)
    logits[rows] = logits[rows].masked_fill(excluded, -torch.inf)
