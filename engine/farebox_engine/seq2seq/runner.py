"""Work on the device: sources into the cache, and from hypotheses to next tokens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.sampling.sampler import Sampled, sample
from farebox_engine.seq2seq.beam import WORST, BeamSearch, Candidate
from farebox_engine.seq2seq.cached_attention import CachedAttention
from farebox_engine.seq2seq.decoding import Decoding
from farebox_engine.seq2seq.encoding import SourceAttention
from farebox_engine.seq2seq.models.model import EncoderDecoder

# What a step yields for a request: a token, or its beams' best continuations (None: not numbers).
NextTokens = Sampled | list[Candidate] | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Whose sources were encoded, and the time taken."""

    decodings: Seq[Decoding]
    busy_ns: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a step yields for each request, and the time taken."""

    next_tokens: list[tuple[Decoding, NextTokens]]
    busy_ns: int


class Seq2SeqRunner:
    """Computes with a model and its cache; every call waits for the device."""

    def __init__(self, model: EncoderDecoder, cache: KVCache) -> None:
        self._model = model
        self._cache = cache

    @torch.inference_mode()
    def clear(self, blocks: Seq[int]) -> None:
        """Zero blocks whose content cannot be trusted."""
        self._cache.clear(blocks)

    @torch.inference_mode()
    def encode(self, decodings: Seq[Decoding]) -> Encoded:
        """Encode sources and keep their keys and values for every decoder layer in their blocks."""
        started = time.perf_counter_ns()
        decodings = sorted(decodings, key=lambda each: each.source_length)
        lengths = [each.source_length for each in decodings]
        tensor = self._cache.index
        states = self._model.encode(
            tensor([token for each in decodings for token in each.source]),
            tensor([position for length in lengths for position in range(length)]),
            SourceAttention(lengths, self._model.encoder_attention, self._cache.device),
        )
        slots = tensor(
            [
                slot
                for each in decodings
                for slot in self._cache.slots(each.source_blocks, 0, each.source_length)
            ]
        )
        for layer, (key, value) in enumerate(self._model.project_source(states)):
            self._cache.write(layer, slots, key, value)
        if self._cache.device.type == "cuda":
            torch.cuda.synchronize(self._cache.device)
        return Encoded(decodings, time.perf_counter_ns() - started)

    @torch.inference_mode()
    def decode(self, decodings: Seq[Decoding]) -> Decoded:
        """The next position of every hypothesis."""
        started = time.perf_counter_ns()
        # Safe to do twice: whatever may have been written to the first since is overwritten in the second.
        self._cache.copy([pair for each in decodings for pair in each.copies])
        decodings = sorted(decodings, key=lambda each: (len(each.rows), -each.source_length))
        rows = [(row, each.computed) for each in decodings for row in each.rows]
        tensor = self._cache.index
        states = self._model.decode(
            tensor([row.tokens[position] for row, position in rows]),
            tensor([position for _, position in rows]),
            CachedAttention(self._cache, decodings, self._model.decoder_attention),
        )
        logits = self._model.logits(states)
        singles = sum(each.beams is None for each in decodings)
        found: list[NextTokens] = list(_sample(logits[:singles], decodings[:singles]))
        found += _search(logits[singles:], decodings[singles:])
        return Decoded(list(zip(decodings, found, strict=True)), time.perf_counter_ns() - started)


def _sample(logits: Tensor, decodings: Seq[Decoding]) -> list[Sampled]:
    """Sample for requests with one hypothesis each from fp32 `logits` [N, vocab], which it overwrites."""
    if not decodings:
        return []
    # Adding, not filling: a NaN stays one and is noticed. Finite, so that log-probabilities are.
    banned = _banned(decodings, logits.device)
    logits[banned] += WORST
    rows, tokens = _forced(decodings, logits.device)
    kept = logits[rows, tokens]
    logits[rows] += WORST
    logits[rows, tokens] = kept
    return sample(logits, [each.sequence for each in decodings])


def _search(logits: Tensor, decodings: Seq[Decoding]) -> Iterator[NextTokens]:
    """Each beam search's best continuations from fp32 `logits` [N, vocab] of all hypotheses.

    As in transformers, what may not follow loses its probability to nobody.
    """
    if not decodings:
        return
    scores = logits.log_softmax(dim=-1)
    # One logit that is no number makes all log-probabilities of its row none.
    broken = scores[:, 0].isnan().tolist()
    scores[_banned(decodings, scores.device)] = -torch.inf
    rows, tokens = _forced(decodings, scores.device)
    scores[rows] = -torch.inf
    scores[rows, tokens] = 0.0
    first = 0
    for (num_beams, candidates), group in itertools.groupby(decodings, _beam_sizes):
        searches = [each.beams for each in group if each.beams is not None]
        last = first + num_beams * len(searches)
        found = _best(scores[first:last], searches, candidates)
        for number, best in enumerate(found):
            start = first + number * num_beams
            yield None if any(broken[start : start + num_beams]) else best
        first = last


def _best(scores: Tensor, searches: Seq[BeamSearch], count: int) -> list[list[Candidate]]:
    """The `count` best continuations of each search, of as many beams each, from `scores` [N, vocab]."""
    vocab = scores.shape[1]
    past = torch.tensor([score for each in searches for score in each.scores], device=scores.device)
    sums = (scores + past[:, None]).view(len(searches), -1)
    values, places = sums.topk(min(count, sums.shape[1]), dim=-1)
    return [
        [Candidate(score, *divmod(place, vocab)) for score, place in zip(*both, strict=True)]
        for both in zip(values.tolist(), places.tolist(), strict=True)
    ]


def _beam_sizes(decoding: Decoding) -> tuple[int, int]:
    if decoding.beams is None:
        raise TypeError("a request without beams has nothing to search")
    return decoding.beams.num_beams, decoding.beams.candidates


def _banned(decodings: Seq[Decoding], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and tokens that may not follow, each pair once, int64 [M] each."""
    hypotheses = enumerate((each.constraints, row.tokens) for each in decodings for row in each.rows)
    return _pairs(
        (
            (index, token)
            for index, (constraints, tokens) in hypotheses
            for token in set(constraints.banned(tokens))
        ),
        device,
    )


def _forced(decodings: Seq[Decoding], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows after which only one token may follow, and that token, int64 [M] each."""
    hypotheses = ((each.constraints, row.tokens) for each in decodings for row in each.rows)
    forced = (constraints.forced(tokens) for constraints, tokens in hypotheses)
    return _pairs(((index, token) for index, token in enumerate(forced) if token is not None), device)


def _pairs(pairs: Iterable[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    both = torch.tensor(list(pairs), dtype=torch.int64, device=device).view(-1, 2)
    return both[:, 0], both[:, 1]
