"""Tokens that a request must not get next."""

from __future__ import annotations

from collections.abc import Iterator

from farebox_engine.sampling.row import Row


def forbidden_tokens(row: Row) -> Iterator[int]:
    """The ends, while `min_tokens` are not reached, and whatever would complete one of the `bad_words`.

    A bad word counts where it lies within the completion; one of a single token is never generated.
    """
    if row.completion_length < row.request.params.min_tokens:
        yield from row.end_token_ids
    words = row.bad_words
    if words is None:
        return
    yield from words.always
    for beginning, last in words.after(row.last_token):
        if len(beginning) <= row.completion_length and row.ends_with(beginning):
            yield last
