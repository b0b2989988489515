"""Work on the device: sources into the cache, and from hypotheses to next tokens."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from farebox_engine.sampler import Sampled, sample
from farebox_engine.seq2seq.beam import WORST, BeamSearch, Candidate
from farebox_engine.seq2seq.cache import BlockCache, CachedAttention
from farebox_engine.seq2seq.decoding import Decoding
from farebox_engine.seq2seq.encoding import SourceAttention
from farebox_engine.seq2seq.model import EncoderDecoder

# What a step brings a request: a token, or its beams' best continuations (None: not numbers).
Outcome = Sampled | list[Candidate] | None


class Seq2SeqRunner:
    """Computes with a model and its cache; every call waits for the device."""

    def __init__(self, model: EncoderDecoder, cache: BlockCache) -> None:
        self._model = model
        self._cache = cache

    @torch.inference_mode()
    def clear(self, blocks: Seq[int]) -> None:
        """Zero blocks whose content cannot be trusted."""
        self._cache.clear(blocks)

    @torch.inference_mode()
    def encode(self, decodings: Seq[Decoding]) -> None:
        """Encode sources and keep their keys and values for every decoder layer in their blocks."""
        decodings = sorted(decodings, key=lambda each: each.source_length)
        lengths = [each.source_length for each in decodings]
        tensor = self._cache.tensor
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

    @torch.inference_mode()
    def decode(
        self, decodings: Seq[Decoding], copies: Seq[tuple[int, int]]
    ) -> list[tuple[Decoding, Outcome]]:
        """One token for every hypothesis; `copies` are blocks to be copied before, to be written to."""
        self._cache.copy(copies)
        decodings = sorted(decodings, key=lambda each: (len(each.rows), -each.source_length))
        rows = [row for each in decodings for row in each.rows]
        tensor = self._cache.tensor
        states = self._model.decode(
            tensor([row.tokens[-1] for row in rows]),
            tensor([len(row.tokens) - 1 for row in rows]),
            CachedAttention(self._cache, decodings, self._model.decoder_attention),
        )
        logits = self._model.logits(states)
        singles = sum(each.beams is None for each in decodings)
        outcomes: list[Outcome] = list(_sample(logits[:singles], decodings[:singles]))
        outcomes += _search(logits[singles:], decodings[singles:])
        return list(zip(decodings, outcomes, strict=True))


def _sample(logits: Tensor, decodings: Seq[Decoding]) -> list[Sampled]:
    """Sample for requests with one hypothesis each from fp32 `logits` [N, vocab], which it overwrites."""
    if not decodings:
        return []
    # Adding, not filling: a NaN stays one and is noticed. Finite, so that log-probabilities are.
    _forbid(logits, decodings, WORST, add=True)
    for row, each in enumerate(decodings):
        forced = each.constraints.forced(each.rows[0].tokens)
        if forced is not None:
            kept = logits[row, forced].clone()
            logits[row] += WORST
            logits[row, forced] = kept
    return sample(logits, [each.sequence for each in decodings])


def _search(logits: Tensor, decodings: Seq[Decoding]) -> Iterator[Outcome]:
    """Each beam search's best continuations from fp32 `logits` [N, vocab] of all hypotheses."""
    broken = logits.isnan().any(dim=-1).tolist()
    scores = logits.log_softmax(dim=-1)
    _forbid(scores, decodings, -torch.inf, add=False)
    row = 0
    for each in decodings:
        rows = slice(row, row + len(each.rows))
        row = rows.stop
        yield None if any(broken[rows]) else _candidates(scores[rows], each)


def _candidates(scores: Tensor, decoding: Decoding) -> list[Candidate]:
    beams = decoding.beams
    if beams is None:
        raise TypeError("a request without beams has no candidates")
    for row, forced in enumerate(decoding.constraints.forced(row.tokens) for row in decoding.rows):
        if forced is not None:
            scores[row] = -torch.inf
            scores[row, forced] = 0.0
    return _best(scores, beams)


def _best(scores: Tensor, beams: BeamSearch) -> list[Candidate]:
    vocab = scores.shape[1]
    sums = scores + torch.tensor(beams.scores, dtype=torch.float32, device=scores.device)[:, None]
    values, places = sums.flatten().topk(min(beams.candidates, sums.numel()))
    return [
        Candidate(score, place // vocab, place % vocab)
        for score, place in zip(values.tolist(), places.tolist(), strict=True)
    ]


def _forbid(scores: Tensor, decodings: Seq[Decoding], value: float, *, add: bool) -> None:
    """Set banned tokens' scores to `value`, or add it to them once."""
    hypotheses = [(each.constraints, row.tokens) for each in decodings for row in each.rows]
    banned = [
        (index, token)
        for index, (constraints, tokens) in enumerate(hypotheses)
        for token in set(constraints.banned(tokens))
    ]
    if banned:
        rows, tokens = (torch.tensor(side, device=scores.device) for side in zip(*banned, strict=True))
        scores[rows, tokens] = scores[rows, tokens] + value if add else value
