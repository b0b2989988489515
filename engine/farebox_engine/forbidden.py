"""Tokens that a request must not get next."""

from __future__ import annotations

from collections.abc import Iterator

from farebox_engine.sequence import Foreseen, Sequence


def forbidden_tokens(sequence: Sequence | Foreseen) -> Iterator[int]:
    """The ends, while `min_tokens` are not reached, and whatever would complete one of the `bad_words`.

    A bad word counts where it lies within the completion; one of a single token is never generated.
    """
    params = sequence.request.params
    if sequence.completion_length < params.min_tokens:
        yield from sequence.end_token_ids
    for word in params.bad_words:
        *beginning, last = word
        if len(beginning) <= sequence.completion_length and sequence.ends_with(beginning):
            yield last
