"""What is guessed to come next, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox_engine.scheduling.drafter import Drafter


@pytest.mark.parametrize(
    ("tokens", "drafts"),
    [
        # Of two occurrences the latest counts, and of two endings the longest.
        ([1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 1, 2, 3], (6, 7, 1, 2)),
        ([1, 2, 3, 4, 5, 9, 2, 3, 6, 7, 1, 2, 3], (4, 5, 9, 2)),
        ([2, 3, 4, 9, 5, 1, 2, 3], (4, 9, 5, 1)),
        # What it is in the middle of goes on in circles.
        ([1, 2, 3, 1, 2, 3], (1, 2, 3, 1)),
        ([8, 8, 8], (8, 8, 8, 8)),
        # One token alone says too little.
        ([3, 4, 5, 3], ()),
        ([5, 5], ()),
        ([5], ()),
        ([1, 2, 3, 4], ()),
    ],
)
def test_what_followed_before_is_proposed(tokens: list[int], drafts: tuple[int, ...]) -> None:
    assert Drafter(4).propose(tokens, 100) == drafts
    assert Drafter(4).propose(tokens, 2) == drafts[:2]
    assert Drafter(4).propose(tokens, 0) == ()


def looked_up(tokens: list[int], count: int) -> tuple[int, ...]:
    """The same, found the slow way."""
    for length in (3, 2):
        for end in range(len(tokens) - 1, length - 1, -1):
            if len(tokens) > length and tokens[end - length : end] == tokens[-length:]:
                text = list(tokens)
                for index in range(count):
                    text.append(text[end + index])
                return tuple(text[len(tokens) :])
    return ()


@given(text=st.lists(st.integers(0, 3), min_size=1, max_size=700), pieces=st.integers(1, 200))
def test_a_growing_text_is_searched_as_a_whole(text: list[int], pieces: int) -> None:
    drafter = Drafter(5)
    for end in range(1, len(text) + 1, pieces):
        assert drafter.propose(text[:end], 5) == looked_up(text[:end], 5)


def test_the_number_follows_what_was_accepted() -> None:
    drafter, text = Drafter(8), [1, 2, 3] * 3
    widths = []
    for accepted in (8, 2, 3, 6, 0):
        proposed = len(drafter.propose(text, 100))
        widths.append(proposed)
        drafter.learn(proposed, min(accepted, proposed))
    assert widths == [8, 8, 3, 6, 8]


def test_refusals_make_guesses_rare() -> None:
    drafter, text = Drafter(8), [1, 2, 3] * 3
    guesses = 0
    for _ in range(1000):
        proposed = drafter.propose(text, 100)
        if proposed:
            guesses += len(proposed)
            drafter.learn(len(proposed), 0)
    assert 8 < guesses < 40
    while not (proposed := drafter.propose(text, 100)):
        pass
    drafter.learn(len(proposed), 1)
    assert drafter.propose(text, 100)


def test_a_stopped_one_proposes_nothing() -> None:
    drafter = Drafter(8)
    drafter.stop()
    assert drafter.propose([1, 2, 3] * 3, 100) == ()
