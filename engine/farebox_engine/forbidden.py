"""Tokens that a request must not get next."""

from __future__ import annotations

from collections.abc import Iterator

from farebox_engine.sequence import Foreseen, Sequence


def forbidden_tokens(sequence: Sequence | Foreseen) -> Iterator[int]:
    """The ends, while `min_tokens` are not reached, and whatever would complete one of the `bad_words`.

    A bad word counts where it lies within the completion; one of a single token is never generated.
    """
    if sequence.completion_length < sequence.request.params.min_tokens:
        yield from sequence.end_token_ids
    words = sequence.bad_words
    if words is None:
        return
    yield from words.always
    for beginning, last in words.after(sequence.last_token):
        if len(beginning) <= sequence.completion_length and sequence.ends_with(beginning):
            yield last
