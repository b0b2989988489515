"""What of a stream counts as handed over, and what a killed process leaves on record."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.gateway.completions.delivery import Delivery
from farebox.gateway.completions.tally import Tally
from farebox.gateway.models.generation import Chunk

PROMPT = 100
CACHED = 64


class Checkpoints:
    """What the meter would write down: the newest totals."""

    def __init__(self) -> None:
        self.totals: tuple[int, int, int] | None = None

    def record(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> None:
        self.totals = (input_tokens, cached_input_tokens, output_tokens)


def begun(choices: int = 1) -> tuple[Delivery, Checkpoints]:
    """A delivery whose first choice has said something: so far, its prompt is all that counts."""
    tally = Tally([PROMPT], choices)
    tally.note(0, Chunk("a", (1,), cached_tokens=CACHED))
    checkpoints = Checkpoints()
    return Delivery(tally, choices, checkpoints.record), checkpoints


def totals(output_tokens: int) -> tuple[int, int, int]:
    return (PROMPT - CACHED, CACHED, output_tokens)


def test_what_the_writer_holds_back_is_not_handed_over() -> None:
    delivery, checkpoints = begun()
    delivery.hold(0, 3)
    delivery.end()
    assert delivery.tokens == 0
    assert checkpoints.totals is None


def test_what_was_held_back_goes_with_the_next_write() -> None:
    delivery, checkpoints = begun()
    delivery.hold(0, 3)
    delivery.hold(0, 2)
    delivery.written(0, flushed=True)
    assert delivery.tokens == 5
    assert checkpoints.totals == totals(5)


def test_a_write_hands_over_its_own_choice_only() -> None:
    delivery, checkpoints = begun(choices=2)
    delivery.hold(0, 3)
    delivery.hold(1, 10)
    delivery.written(0, flushed=True)
    assert checkpoints.totals == totals(3)
    delivery.written(1, flushed=True)
    assert checkpoints.totals == totals(13)


def test_what_waits_in_memory_is_not_on_record_for_a_killed_process() -> None:
    delivery, checkpoints = begun()
    delivery.hold(0, 3)
    delivery.written(0, flushed=False)
    assert checkpoints.totals is None
    delivery.hold(0, 4)
    delivery.written(0, flushed=False)
    assert checkpoints.totals == totals(3)
    delivery.hold(0, 5)
    delivery.written(0, flushed=True)
    assert checkpoints.totals == totals(12)


def test_who_leaves_while_a_write_waits_has_not_got_the_one_before() -> None:
    delivery, checkpoints = begun()
    for tokens in (3, 4):
        delivery.hold(0, tokens)
        delivery.written(0, flushed=False)
    delivery.hold(0, 5)
    delivery.lost()
    assert delivery.tokens == 3
    delivery.end()
    assert checkpoints.totals == totals(3)


@pytest.mark.parametrize("writes", [0, 1])
def test_who_leaves_at_the_first_wait_has_got_nothing(writes: int) -> None:
    delivery, _ = begun()
    for _ in range(writes):
        delivery.hold(0, 3)
        delivery.written(0, flushed=False)
    delivery.hold(0, 4)
    delivery.lost()
    assert delivery.tokens == 0


def test_in_the_end_all_that_was_written_is_on_record() -> None:
    delivery, checkpoints = begun()
    delivery.hold(0, 3)
    delivery.written(0, flushed=False)
    delivery.end()
    assert checkpoints.totals == totals(3)


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=30))
def test_the_record_never_runs_ahead_of_what_left_the_process(writes: Sequence[tuple[int, bool]]) -> None:
    delivery, checkpoints = begun()
    left = pending = 0
    for tokens, flushed in writes:
        left += pending  # a write begins when the one before has left
        delivery.hold(0, tokens)
        delivery.written(0, flushed=flushed)
        pending = 0 if flushed else tokens
        left += tokens - pending
        assert checkpoints.totals == (totals(left) if left else None)
        assert delivery.tokens == left + pending
