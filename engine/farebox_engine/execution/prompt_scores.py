"""How probable a model finds the tokens of a prompt."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from farebox_engine.models.registry import CausalLM
from farebox_engine.outputs import RawLogprobs
from farebox_engine.scheduling.sequence import Sequence, Span

# Logits of a whole prompt over a large vocabulary would take gigabytes.
_ROWS_AT_ONCE = 64


def score_prompts(model: CausalLM, hidden: Tensor, spans: Seq[Span]) -> dict[Sequence, list[RawLogprobs]]:
    """Of each sequence that asks for it, the next prompt tokens that lack one get their log-probability.

    `hidden` [T, hidden_size] is what `model` made of `spans`. A position scores the token
    after it, so that the first token of a prompt has no score.
    """
    scores: dict[Sequence, list[RawLogprobs]] = {}
    row = 0
    for span in spans:
        sequence, width = span.sequence, span.sequence.request.params.prompt_logprobs
        if width is not None:
            start = max(span.start, len(sequence.prompt_scores))
            stop = min(span.stop, sequence.prompt_length - 1)
            if start < stop:
                rows = hidden[row + start - span.start : row + stop - span.start]
                targets = sequence.tokens[start + 1 : stop + 1]
                scores[sequence] = _score(model, rows, targets, width)
        row += span.length
    return scores


def _score(model: CausalLM, hidden: Tensor, targets: list[int], width: int) -> list[RawLogprobs]:
    scores = []
    for start in range(0, len(targets), _ROWS_AT_ONCE):
        part = targets[start : start + _ROWS_AT_ONCE]
        logprobs = model.logits(hidden[start : start + _ROWS_AT_ONCE]).log_softmax(dim=-1)
        own = logprobs.gather(1, torch.tensor(part, device=logprobs.device)[:, None])[:, 0].tolist()
        values, ids = logprobs.topk(min(width, logprobs.shape[1]), dim=-1)
        scores += [RawLogprobs(*row) for row in zip(own, ids.tolist(), values.tolist(), strict=True)]
    return scores
