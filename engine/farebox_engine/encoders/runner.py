"""One step of an encoder on the device: from inputs to vectors or logits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from farebox_engine.encoders.job import Output
from farebox_engine.encoders.loader import LoadedEncoder
from farebox_engine.encoders.models.config import Task
from farebox_engine.encoders.models.ragged import RaggedAttention, RaggedBatch, Rows
from farebox_engine.encoders.tokenizer import Tokens


@dataclass(frozen=True, slots=True)
class EncoderStep:
    """Each input's result, in the order given, and the time taken."""

    outputs: list[Output]
    busy_ns: int


class EncoderRunner:
    """Computes inputs of any lengths together, without padding."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        self._loaded = loaded
        self._window: int | None = getattr(loaded.config, "window", None)

    @torch.inference_mode()
    def run(self, inputs: Sequence[Tokens]) -> EncoderStep:
        """Return vectors [dimensions], logits [labels] or, for token labels, logits [length, labels]."""
        started = time.perf_counter_ns()
        order = sorted(range(len(inputs)), key=lambda place: -len(inputs[place]))
        ordered = [inputs[place] for place in order]
        batch = make_batch(ordered, self._loaded.device, self._loaded.dtype, self._window)
        results = self._results(batch, [len(tokens) for tokens in ordered])
        outputs: list[Output] = [results[0]] * len(inputs)
        for place, output in zip(order, results, strict=True):
            outputs[place] = output
        # Reading the results has waited for the device, so that this is its time, not the launches'.
        return EncoderStep(outputs, time.perf_counter_ns() - started)

    def _results(self, batch: RaggedBatch, lengths: Sequence[int]) -> Sequence[Output]:
        values: Tensor = self._loaded.model(batch)
        if self._loaded.pooler is not None:
            values = self._loaded.pooler(values, batch)
        array: Output = values.cpu().numpy()
        if self._loaded.task is Task.LABEL_TOKENS:
            return np.split(array, np.cumsum(lengths[:-1]))
        return list(array)


def make_batch(
    inputs: Sequence[Tokens], device: torch.device, dtype: torch.dtype, window: int | None
) -> RaggedBatch:
    """Lay ``inputs``, in order of falling length, end to end."""

    def tensor(values: Rows) -> Tensor:
        return torch.from_numpy(values).to(device)

    lengths = [len(tokens) for tokens in inputs]
    return RaggedBatch(
        tokens=tensor(np.concatenate([tokens.ids for tokens in inputs])),
        positions=tensor(np.concatenate([np.arange(length) for length in lengths])),
        token_types=tensor(np.concatenate([tokens.types for tokens in inputs])),
        starts=tensor(np.cumsum([0, *lengths[:-1]])),
        lengths=tensor(np.array(lengths)),
        attention=RaggedAttention(lengths, device, dtype, window),
    )
