"""A batch that fails is narrowed down to the items that cause it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.metering.halving import by_halves


class Spoiled(Exception):
    """What one bad item makes of its whole batch."""


@dataclass
class Ledger:
    """Takes batches whole or not at all, and counts how often it is asked."""

    bad: set[int]
    asked: int = 0
    taken: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    refused: dict[int, Exception] = field(default_factory=dict)
    away_at: int | None = None

    async def take(self, items: Sequence[int]) -> list[str]:
        self.asked += 1
        if self.asked == self.away_at:
            raise ConnectionError("away")
        if spoiled := self.bad.intersection(items):
            raise Spoiled(min(spoiled))
        self.taken += items
        return [f"took {item}" for item in items]

    async def run(self, items: Sequence[int]) -> None:
        await by_halves(
            items,
            self.take,
            narrow=Spoiled,
            done=lambda part, answers: self.answers.extend(answers),
            refused=self.refused.__setitem__,
        )


@given(st.integers(1, 64).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
async def test_each_good_item_goes_through_once_and_each_bad_one_is_refused(
    case: tuple[int, set[int]],
) -> None:
    number, bad = case
    ledger = Ledger(bad)
    await ledger.run(range(number))
    good = [item for item in range(number) if item not in bad]
    assert ledger.taken == good
    assert ledger.answers == [f"took {item}" for item in good]
    assert {item: error.args for item, error in ledger.refused.items()} == {item: (item,) for item in bad}


async def test_one_bad_item_costs_two_tries_a_level_and_a_sound_batch_one() -> None:
    sound, spoiled = Ledger(set()), Ledger({77})
    await sound.run(range(256))
    await spoiled.run(range(256))
    assert sound.asked == 1
    assert spoiled.asked == 1 + 2 * ceil(log2(256))


async def test_another_error_passes_and_what_went_before_it_is_done() -> None:
    ledger = Ledger({3}, away_at=3)
    with pytest.raises(ConnectionError):
        await ledger.run(range(4))
    assert (ledger.taken, ledger.refused) == ([0, 1], {})
