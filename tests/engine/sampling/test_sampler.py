"""The sampler against `transformers`' processors, and its promises."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from farebox_engine.sampling.sampler import sample, uniform
from tests.engine.sequences import make_sequence

NO_PROMPT: Any = torch.zeros(1, 1, dtype=torch.long)
VOCAB = 600  # more than the sampler looks at first


def random_logits(seed: int, rows: int = 1, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * scale


def token(logits: torch.Tensor, **params: Any) -> int | None:
    """The next token for one row of logits; a prompt of one token unless given."""
    settings: dict[str, Any] = {"prompt": [0], "generated": ()} | params
    sequence = make_sequence(settings.pop("prompt"), generated=settings.pop("generated"), **settings)
    return sample(logits.clone().reshape(1, -1), [sequence])[0].token


filters = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.1, 3),
        "top_k": st.sampled_from([0, 0, 1, 5, 300, 10_000]),
        "top_p": st.sampled_from([1.0, 1.0, 0.05, 0.5, 0.9, 0.999]),
        "min_p": st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0]),
    }
)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), choice=filters, scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_only_tokens_that_transformers_keeps_are_drawn(
    seed: int, choice: dict[str, Any], scale: float
) -> None:
    logits = random_logits(seed, scale=scale)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(choice["temperature"])])
    if choice["top_k"]:
        warpers.append(TopKLogitsWarper(choice["top_k"]))
    if choice["top_p"] < 1:
        warpers.append(TopPLogitsWarper(choice["top_p"]))
    if choice["min_p"]:
        warpers.append(MinPLogitsWarper(choice["min_p"]))
    kept = warpers(NO_PROMPT, logits.clone())[0]
    drawn = token(logits, seed=seed, **choice)
    assert drawn is not None
    assert kept[drawn] > -math.inf


@pytest.mark.parametrize(
    "choice",
    [{}, {"temperature": 0.7}, {"top_p": 0.8}, {"top_k": 6}, {"min_p": 0.2}, {"top_k": 8, "top_p": 0.7}],
)
def test_frequencies_follow_the_distribution(choice: dict[str, Any]) -> None:
    draws = 6_000
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 1.5
    warpers = LogitsProcessorList([TemperatureLogitsWarper(choice.get("temperature", 1.0))])
    if "top_k" in choice:
        warpers.append(TopKLogitsWarper(choice["top_k"]))
    if "top_p" in choice:
        warpers.append(TopPLogitsWarper(choice["top_p"]))
    if "min_p" in choice:
        warpers.append(MinPLogitsWarper(choice["min_p"]))
    expected = warpers(NO_PROMPT, logits[None])[0].softmax(-1)
    sequences = [make_sequence([0], seed=seed, **choice) for seed in range(draws)]
    drawn = [each.token for each in sample(logits.repeat(draws, 1), sequences)]
    found = torch.bincount(torch.tensor(drawn), minlength=12) / draws
    # Six standard deviations of the least certain share.
    assert (found - expected).abs().max() < 6 * math.sqrt(0.25 / draws)
    assert not found[expected == 0].any()


@settings(max_examples=50, deadline=None)
@given(choices=st.lists(filters, min_size=2, max_size=5), order=st.randoms())
def test_a_row_does_not_depend_on_its_batch(choices: list[dict[str, Any]], order: Any) -> None:
    logits = random_logits(3, rows=len(choices))
    alone = [token(logits[row], seed=row, **choice) for row, choice in enumerate(choices)]
    rows = list(range(len(choices)))
    order.shuffle(rows)
    together = sample(logits[rows], [make_sequence([0], seed=row, **choices[row]) for row in rows])
    assert [each.token for each in together] == [alone[row] for row in rows]


def test_a_seed_repeats_itself_and_seeds_differ() -> None:
    flat = torch.zeros(VOCAB)

    def stream(seed: int) -> list[int | None]:
        return [token(flat, seed=seed, generated=[0] * length) for length in range(40)]

    assert stream(7) == stream(7)
    assert len(set(stream(7))) > 30
    for other in (8, 6, 7 + 0x9E3779B97F4A7C15 & 2**64 - 1):
        # Neighbours, and the one that plain SplitMix64 would run into a step later.
        assert not set(stream(7)[1:30]) <= set(stream(other))


def test_uniform_numbers_are_uniform() -> None:
    numbers = torch.tensor([[uniform(seed, index) for index in range(100)] for seed in range(100)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert torch.histc(numbers, bins=10, min=0, max=1).sub(1000).abs().max() < 150
    assert numbers.diff(dim=0).mean().abs() < 0.01


def test_greedy_takes_the_best_and_top_p_zero_does_too() -> None:
    logits = random_logits(5)
    best = int(logits.argmax())
    assert token(logits, temperature=0.0) == best
    assert token(logits, top_p=0.0) == best
    assert token(logits, top_k=1) == best


def test_repetition_penalty_agrees_with_transformers() -> None:
    logits = random_logits(6)
    prompt, generated = [1, 2, 3, int(logits.argmax())], [2, 9]
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([prompt + generated]), logits.clone())
    found = token(logits, temperature=0.0, prompt=prompt, generated=generated, repetition_penalty=1.7)
    assert found == int(expected.argmax())


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    logits = torch.zeros(VOCAB)
    logits[4], logits[5], logits[6] = 3.0, 2.9, 2.0
    greedy = {"temperature": 0.0}
    assert token(logits, prompt=[4, 4, 4], presence_penalty=2.0, **greedy) == 4
    assert token(logits, generated=[4], presence_penalty=0.05, **greedy) == 4
    assert token(logits, generated=[4], presence_penalty=0.2, **greedy) == 5
    assert token(logits, generated=[4, 4, 5], frequency_penalty=0.5, **greedy) == 5
    assert token(logits, generated=[4, 4, 5, 5, 5], frequency_penalty=0.8, **greedy) == 6
    assert token(logits, generated=[6], presence_penalty=-2.0, **greedy) == 6


def test_bias_moves_the_choice_of_its_row_only() -> None:
    logits = torch.zeros(2, VOCAB)
    logits[:, 3] = 5.0
    sequences = [
        make_sequence([0], temperature=0.0, logit_bias={9: 100.0, 3: -100.0}),
        make_sequence([0], top_k=1),
    ]
    assert [each.token for each in sample(logits, sequences)] == [9, 3]


def test_logprobs_are_raw() -> None:
    logits = random_logits(8)
    expected = logits[0].log_softmax(-1)
    biased = make_sequence([0], temperature=0.0, logit_bias={17: 100.0}, logprobs=5)
    found = sample(logits.clone(), [biased])[0]
    assert found.token == 17
    assert found.logprobs is not None
    assert found.logprobs.chosen == pytest.approx(float(expected[17]))
    assert found.logprobs.top_ids == expected.topk(5).indices.tolist()
    assert found.logprobs.top == pytest.approx(expected.topk(5).values.tolist())


def test_only_rows_that_ask_get_logprobs() -> None:
    sequences = [make_sequence([0]), make_sequence([0], logprobs=0), make_sequence([0], logprobs=20)]
    found = sample(random_logits(9, rows=3), sequences)
    assert [None if each.logprobs is None else len(each.logprobs.top) for each in found] == [None, 0, 20]


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {}, {"top_p": 0.9}])
def test_a_nan_is_reported_and_spoils_no_other_row(params: dict[str, Any]) -> None:
    logits = random_logits(10, rows=2)
    logits[0, 5] = torch.nan
    found = sample(logits, [make_sequence([0], **params), make_sequence([0], temperature=0.0)])
    assert found[0].token is None
    assert found[1].token is not None


def test_a_row_whose_bans_leave_nothing_is_told_from_one_that_is_broken() -> None:
    logits = torch.full((3, VOCAB), -torch.inf)
    logits[:2, 40] = 0.0
    rows = [make_sequence([0], bad_words=((40,),)), make_sequence([0]), make_sequence([0])]
    found = sample(logits, rows)
    assert [(each.token, each.exhausted) for each in found] == [(None, True), (40, False), (None, False)]


def test_tokens_without_probability_are_never_drawn() -> None:
    logits = torch.full((VOCAB,), -torch.inf)
    logits[[40, 400]] = 0.0
    drawn = {token(logits, seed=seed) for seed in range(100)}
    drawn |= {token(logits, seed=seed, top_p=0.99999) for seed in range(100)}
    assert drawn == {40, 400}
