"""From logits to tokens, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from farebox_engine.grammar.matcher import apply_grammars
from farebox_engine.outputs import RawLogprobs
from farebox_engine.sampling.forbidden import forbidden_tokens
from farebox_engine.sampling.row import Row

_WORD = 2**64 - 1
FIRST_CANDIDATES = 256


@dataclass(frozen=True, slots=True)
class Sampled:
    """One row's next token; `token` is None where the logits are no numbers.

    It is None and `exhausted` true where the request's own grammar and bans leave none to choose.
    """

    token: int | None
    logprobs: RawLogprobs | None = None
    exhausted: bool = False


def sample(logits: Tensor, sequences: Seq[Row]) -> list[Sampled]:
    """Choose each sequence's next token from fp32 `logits` [N, vocab], which it may overwrite.

    A row depends on its own logits, parameters, seed and number of tokens alone, never on
    the rest of the batch.
    """
    wanted = [row for row, seq in enumerate(sequences) if seq.request.params.logprobs is not None]
    raw = logits[wanted].log_softmax(dim=-1) if wanted else None
    _apply_penalties(logits, sequences)
    _apply_bias(logits, sequences)
    _forbid(logits, sequences)
    matchers = [(row, seq.matcher) for row, seq in enumerate(sequences) if seq.matcher is not None]
    if matchers:
        apply_grammars(logits, matchers)
    best, choice = logits.max(dim=-1)
    drawing = [row for row, seq in enumerate(sequences) if not seq.request.params.greedy]
    if drawing:
        choice[drawing] = _draw(logits[drawing], [sequences[row] for row in drawing])
    logprobs: dict[int, RawLogprobs] = {}
    if raw is not None:
        scores = _logprobs(raw, choice[wanted], [sequences[row] for row in wanted])
        logprobs = dict(zip(wanted, scores, strict=True))
    verdicts = zip(choice.tolist(), best.isnan().tolist(), best.isneginf().tolist(), strict=True)
    return [
        Sampled(None if broken or barred else token, logprobs.get(row), barred and _is_bound(sequences[row]))
        for row, (token, broken, barred) in enumerate(verdicts)
    ]


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on a request's 64-bit seed and a token's index alone.

    Counter-based (SplitMix64, Steele et al., OOPSLA 2014), so that nothing has to be kept
    or replayed across batches and preemptions. The seed is mixed first: neighbouring
    seeds would otherwise share most of their streams.
    """
    return (_mix((_mix(seed) + index * 0x9E3779B97F4A7C15) & _WORD) >> 11) * 2.0**-53


def _mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _apply_penalties(logits: Tensor, sequences: Seq[Row]) -> None:
    """Repetition (Keskar et al. 2019, arXiv 1909.05858), then presence and frequency as in OpenAI's API."""
    seen = [(row, seq.counts, seq.request.params) for row, seq in enumerate(sequences) if seq.counts]
    if not seen:
        return
    sizes = [len(counts.ids) for _, counts, _ in seen]
    index = (
        _tensor(np.repeat([row for row, _, _ in seen], sizes), logits.device),
        _tensor(np.concatenate([counts.ids for _, counts, _ in seen]), logits.device),
    )
    generated = _tensor(np.concatenate([counts.generated for _, counts, _ in seen]), logits.device)

    def spread(values: list[float]) -> Tensor:
        return _tensor(np.repeat(np.asarray(values, dtype=np.float32), sizes), logits.device)

    values = logits[index]
    repetition = spread([params.repetition_penalty for _, _, params in seen])
    values = torch.where(values > 0, values / repetition, values * repetition)
    values -= spread([params.frequency_penalty for _, _, params in seen]) * generated
    values -= spread([params.presence_penalty for _, _, params in seen]) * (generated > 0)
    logits[index] = values


def _apply_bias(logits: Tensor, sequences: Seq[Row]) -> None:
    entries = [
        (row, token, bias)
        for row, seq in enumerate(sequences)
        for token, bias in seq.request.params.logit_bias.items()
    ]
    if entries:
        rows, tokens, biases = zip(*entries, strict=True)
        index = (_tensor(rows, logits.device), _tensor(tokens, logits.device))
        logits[index] += _tensor(np.asarray(biases, dtype=np.float32), logits.device)


def _forbid(logits: Tensor, sequences: Seq[Row]) -> None:
    entries = [(row, token) for row, seq in enumerate(sequences) for token in forbidden_tokens(seq)]
    if entries:
        rows, tokens = zip(*entries, strict=True)
        logits[_tensor(rows, logits.device), _tensor(tokens, logits.device)] = -torch.inf


def _is_bound(sequence: Row) -> bool:
    """Whether the request itself may exclude tokens: where it does not, the model has failed."""
    return sequence.matcher is not None or any(True for _ in forbidden_tokens(sequence))


def _draw(logits: Tensor, sequences: Seq[Row]) -> Tensor:
    """Draw from each row after temperature, top-k, top-p and min-p; int64 [N]."""
    params = [seq.request.params for seq in sequences]
    device = logits.device
    logits = logits / _column([p.temperature for p in params], device)
    points = _column([uniform(s.request.seed, s.completion_length) for s in sequences], device, torch.float64)
    filtered = [row for row, p in enumerate(params) if p.top_k or p.top_p < 1 or p.min_p]
    if len(filtered) == 0:
        return invert(logits.softmax(dim=-1), points)
    choice = torch.empty(len(params), dtype=torch.int64, device=device)
    free = sorted(set(range(len(params))) - set(filtered))
    if free:
        choice[free] = invert(logits[free].softmax(dim=-1), points[free])
    candidates, probabilities = _candidates(logits[filtered], [sequences[row] for row in filtered])
    place = invert(probabilities, points[filtered])
    choice[filtered] = candidates.gather(1, place[:, None])[:, 0]
    return choice


def _candidates(logits: Tensor, sequences: Seq[Row]) -> tuple[Tensor, Tensor]:
    """The tokens that survive the filters, best first, and their probabilities, 0 for the others.

    Sorting a whole vocabulary is slow, so that the search begins with the best few
    hundred and widens only while some row's filters reach past them.
    """
    params = [seq.request.params for seq in sequences]
    device, vocab = logits.device, logits.shape[1]
    top_k = _column([min(p.top_k or vocab, vocab) for p in params], device, torch.int64)
    top_p = _column([p.top_p for p in params], device)
    min_p = _column([p.min_p for p in params], device)
    # Never less than any top-k: its probabilities are renormalised over all it keeps.
    width = min(vocab, max([FIRST_CANDIDATES, *(p.top_k for p in params if p.top_k < vocab)]))
    while True:
        ids, probabilities, reached = filter_best(logits, top_k, top_p, min_p, width)
        if width == vocab or bool(reached.all()):
            return ids, probabilities
        width = min(vocab, 8 * width)


def filter_best(
    logits: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best `width` tokens, their probabilities, 0 where filtered out, and which rows need no more.

    `logits` is [N, vocab] after the temperature, the filters [N, 1]; a `top_k` of vocab keeps
    all. Returns int64 and fp32 [N, width] and bool [N, 1].
    """
    vocab = logits.shape[1]
    values, ids = logits.topk(width, dim=-1)
    within = torch.arange(width, device=logits.device) < top_k
    limited = values.masked_fill(~within, -torch.inf)
    everything = logits.logsumexp(dim=-1, keepdim=True)
    total = torch.where(top_k < vocab, limited.logsumexp(dim=-1, keepdim=True), everything)
    probabilities = (limited - total).exp()
    mass = probabilities.cumsum(dim=-1)
    threshold = min_p * probabilities[:, :1]
    reached = (top_k < vocab) | ((top_p < 1) & (mass[:, -1:] >= top_p))
    reached |= (min_p > 0) & (probabilities[:, -1:] < threshold)
    keep = (mass - probabilities < top_p) & (probabilities >= threshold)
    keep[:, 0] = True
    return ids, probabilities * keep, reached


def invert(probabilities: Tensor, points: Tensor) -> Tensor:
    """The index at which each row's cumulative sum passes its point in [0, 1); rows need not sum to 1.

    In fp64: in fp32 the tail of a large vocabulary would vanish in the sum.
    """
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    place = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True)[:, 0]
    return place.clamp(max=probabilities.shape[1] - 1)


def _logprobs(raw: Tensor, chosen: Tensor, sequences: Seq[Row]) -> list[RawLogprobs]:
    widths = [seq.request.params.logprobs or 0 for seq in sequences]
    values, ids = raw.topk(min(max(widths), raw.shape[1]), dim=-1)
    own = raw.gather(1, chosen[:, None])[:, 0].tolist()
    return [
        RawLogprobs(logprob, top_ids[:width], top[:width])
        for logprob, top_ids, top, width in zip(own, ids.tolist(), values.tolist(), widths, strict=True)
    ]


def _column(
    values: list[float] | list[int], device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)[:, None]


def _tensor(values: ArrayLike, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(device)
