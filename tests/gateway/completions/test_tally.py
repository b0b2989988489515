"""What a request is billed by: prompts begun, cached tokens as such, what the engine counted."""

import math
from dataclasses import replace
from typing import Any

import pytest

from farebox.gateway.completions.tally import Tally
from farebox.gateway.models.generation import Chunk, FinishReason, Usage


def usage(cached: int, completion: int) -> Usage:
    return Usage(100, cached, completion, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_cached_tokens_are_known_from_the_first_chunk() -> None:
    tally = Tally([100], 1)
    tally.note(0, Chunk("a", (1,), cached_tokens=64))
    assert (tally.input_tokens, tally.cached_tokens) == (36, 64)


def test_a_prompt_is_as_cached_as_its_least_lucky_choice_found_it() -> None:
    tally = Tally([100], 3)
    tally.note(1, Chunk("a", (1,), cached_tokens=96))
    tally.note(0, Chunk("a", (1,), cached_tokens=32))
    tally.note(2, Chunk("a", (1,), cached_tokens=96))
    assert (tally.input_tokens, tally.cached_tokens) == (68, 32)


def test_prompts_that_nothing_came_from_are_not_counted() -> None:
    tally = Tally([100, 50, 7], 2)
    tally.note(1, Chunk("a", (1,), cached_tokens=10))
    tally.note(2, Chunk("b", (1,), cached_tokens=0))
    assert (tally.input_tokens, tally.cached_tokens) == (140, 10)
    tally.note(4, Chunk("", (), finish_reason=FinishReason.CANCELLED, usage=usage(0, 0)))
    assert (tally.input_tokens, tally.cached_tokens) == (140, 10)
    tally.note(5, Chunk("", (1,), finish_reason=FinishReason.STOP, usage=usage(0, 1)))
    assert (tally.input_tokens, tally.cached_tokens, tally.prompt_tokens) == (147, 10, 157)


def test_a_choice_cancelled_before_its_first_token_makes_no_prompt_dearer() -> None:
    tally = Tally([100], 2)
    tally.note(0, Chunk("a", (1,), cached_tokens=96))
    tally.note(1, Chunk("", (), finish_reason=FinishReason.CANCELLED, usage=usage(0, 0)))
    assert (tally.input_tokens, tally.cached_tokens) == (4, 96)


def test_a_prompt_that_failed_before_its_first_token_is_not_counted() -> None:
    tally = Tally([100, 50], 1)
    tally.note(0, Chunk("a", (1,), cached_tokens=0))
    tally.note(1, Chunk("", (), finish_reason=FinishReason.ERROR, error="out of memory"))
    assert (tally.input_tokens, tally.cached_tokens) == (100, 0)


@pytest.mark.parametrize("count", [math.nan, math.inf, -1, 2.5, None], ids=str)
def test_a_count_that_cannot_be_is_never_billed(count: Any) -> None:
    tally = Tally([100], 1)
    with pytest.raises(ValueError, match="counted"):
        tally.note(0, Chunk("a", (1,), cached_tokens=count))
    end = Chunk("", (), finish_reason=FinishReason.STOP, usage=replace(usage(0, 0), completion_tokens=count))
    with pytest.raises(ValueError, match="counted"):
        tally.note(0, end)
    assert tally.settlement("completed", 0).output_tokens == tally.settlement("failed", 0).output_tokens == 0


def test_no_more_of_a_prompt_was_cached_than_it_has() -> None:
    with pytest.raises(ValueError, match="counted"):
        Tally([100], 1).note(0, Chunk("a", (1,), cached_tokens=101))
