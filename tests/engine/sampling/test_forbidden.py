"""What a request must not get next, held against a search through all that it would make."""

from hypothesis import given
from hypothesis import strategies as st

from farebox_engine.sampling.forbidden import forbidden_tokens
from farebox_engine.scheduling.sequence import DraftedSequence
from tests.engine.sequences import make_sequence

TOKENS = st.integers(0, 3)


def holds(tokens: list[int], word: tuple[int, ...]) -> bool:
    return any(tuple(tokens[start : start + len(word)]) == word for start in range(len(tokens)))


@given(
    prompt=st.lists(TOKENS, min_size=1, max_size=4),
    generated=st.lists(TOKENS, max_size=6),
    drafts=st.lists(TOKENS, max_size=4),
    words=st.lists(st.lists(TOKENS, min_size=1, max_size=4).map(tuple), max_size=6),
    min_tokens=st.integers(0, 12),
)
def test_what_would_complete_a_bad_word_or_end_too_soon_is_forbidden(
    prompt: list[int],
    generated: list[int],
    drafts: list[int],
    words: list[tuple[int, ...]],
    min_tokens: int,
) -> None:
    sequence = make_sequence(
        prompt, generated=generated, bad_words=tuple(words), min_tokens=min_tokens, stop_token_ids=(9,)
    )
    row = DraftedSequence(sequence, tuple(drafts)) if drafts else sequence
    found = set(forbidden_tokens(row))
    completion = generated + drafts
    ending = {
        token
        for token in range(4)
        for word in words
        if holds([*completion, token][len(completion) + 1 - len(word) :], word)
        and len(word) <= len(completion) + 1
    }
    assert found - {9} == ending
    assert (9 in found) == (len(completion) < min_tokens)
