"""The sampler as part of a captured graph: the same tokens as `sampler.sample`, none of them read back."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import torch
from torch import Tensor

from farebox_engine.execution.device_batch import MIN_P, POINT, TEMPERATURE, TOP_K, TOP_P
from farebox_engine.params import SamplingParams
from farebox_engine.sampling.sampler import FIRST_CANDIDATES, filter_best, invert
from farebox_engine.scheduling.sequence import Sequence


class Mode(IntEnum):
    """How much of the sampler a step needs; each does all that the ones before it do."""

    GREEDY = 0
    DRAW = 1
    FILTER = 2


def runs_on_device(sequence: Sequence) -> bool:
    """Whether the next token needs nothing but the model itself and numbers known beforehand."""
    params = sequence.request.params
    return (
        sequence.matcher is None
        and sequence.counts is None
        and sequence.adapter is None
        and not params.logit_bias
        and not params.bad_words
        and sequence.completion_length >= params.min_tokens
        and params.logprobs is None
        and params.top_k <= FIRST_CANDIDATES
    )


def _mode(params: SamplingParams) -> Mode:
    if params.greedy:
        return Mode.GREEDY
    return Mode.FILTER if params.top_k or params.top_p < 1 or params.min_p else Mode.DRAW


def least_mode(params: Iterable[SamplingParams]) -> Mode:
    """What a batch with these parameters needs."""
    return max((_mode(p) for p in params), default=Mode.GREEDY)


def choose(logits: Tensor, numbers: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """The next token of each row, int64 [N], -1 where the logits hold a NaN; and whether it is settled.

    `logits` is fp32 [N, vocab]; `numbers` fp64 [5, N], see `DeviceBatch`. A row is not settled
    if its filters reach past the best 256 tokens: then it must be sampled by `sampler.sample`.
    """
    best, choice = logits.max(dim=-1)
    settled = torch.ones_like(choice, dtype=torch.bool)
    if mode >= Mode.DRAW:
        columns = numbers[:, :, None]
        temperature = columns[TEMPERATURE].float()
        greedy = temperature == 0
        scaled = logits / torch.where(greedy, 1.0, temperature)
        drawn = invert(scaled.softmax(dim=-1), columns[POINT])
        if mode == Mode.FILTER:
            filtered = (columns[TOP_K] > 0) | (columns[TOP_P] < 1) | (columns[MIN_P] > 0)
            place, reached = _draw_filtered(scaled, columns)
            drawn = torch.where(filtered[:, 0], place, drawn)
            settled = (reached | ~filtered | greedy)[:, 0]
        choice = torch.where(greedy[:, 0], choice, drawn)
    return choice.masked_fill(best.isnan(), -1), settled


def _draw_filtered(scaled: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    vocab = scaled.shape[1]
    top_k = columns[TOP_K].long()
    top_k = torch.where(top_k > 0, top_k, vocab).clamp(max=vocab)
    top_p, min_p = columns[TOP_P].float(), columns[MIN_P].float()
    width = min(vocab, FIRST_CANDIDATES)
    ids, probabilities, reached = filter_best(scaled, top_k, top_p, min_p, width)
    place = invert(probabilities, columns[POINT])
    return ids.gather(1, place[:, None])[:, 0], reached | (width == vocab)
