"""Which tokens a hypothesis may go on with, as generation_config.json has it."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.seq2seq.generation_config import GenerationConfig


class Constraints:
    """The constraints on one request; the same at its turn in `transformers`, whatever the batch."""

    def __init__(self, defaults: GenerationConfig, sequence: Sequence) -> None:
        self._defaults = defaults
        self._limit = sequence.token_limit
        # As in transformers, what ends a text cannot be banned.
        self._banned = sorted(set(defaults.banned) - sequence.end_token_ids)
        self._ends = sorted(sequence.end_token_ids)
        # A request deaf to end tokens is not ended by a forced one either.
        self._forced_end = None if sequence.request.params.ignore_eos else defaults.forced_eos_token_id

    def forced(self, tokens: Seq[int]) -> int | None:
        """The only token that may follow `tokens`, which begin with the start token; None if several may."""
        generated = len(tokens) - 1
        if self._forced_end is not None and generated == self._limit - 1:
            return self._forced_end
        return self._defaults.forced_bos_token_id if generated == 0 else None

    def ends_by_force(self, tokens: Seq[int]) -> bool:
        """Whether the last of `tokens` is an end that the limit, not the model, has put there."""
        return self._forced_end is not None and len(tokens) - 1 == self._limit

    def banned(self, tokens: Seq[int]) -> list[int]:
        """The tokens that may not follow `tokens`; may name one twice."""
        banned = list(self._banned)
        if len(tokens) - 1 < self._defaults.min_tokens:
            banned += self._ends
        size = self._defaults.no_repeat_ngram_size
        if size and len(tokens) >= size - 1:
            banned += _completions(tokens, size)
        return banned


def _completions(tokens: Seq[int], size: int) -> list[int]:
    """The tokens that would repeat an n-gram of `size` tokens (Paulus et al. 2017, arXiv 1705.04304)."""
    ending = list(tokens[len(tokens) - size + 1 :])
    return [
        tokens[start + size - 1]
        for start in range(len(tokens) - size + 1)
        if list(tokens[start : start + size - 1]) == ending
    ]
