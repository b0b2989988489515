"""Token streams, and which window of them each step reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from farebox_engine.training.corpus import Unit
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.vocabulary import Encoder


class TokenStream:
    """Units laid end to end. ``ids`` and ``labels`` are int32 [N]; a label of -100 is not learned."""

    def __init__(self, ids: Tensor, labels: Tensor) -> None:
        self.ids = ids
        self.labels = labels

    @classmethod
    def encode(cls, units: Iterable[Unit], encoder: Encoder) -> TokenStream:
        ids: list[int] = []
        labels: list[int] = []
        for unit in units:
            unit_ids, unit_labels = encoder.encode(unit)
            ids += unit_ids
            labels += unit_labels
        return cls(torch.tensor(ids, dtype=torch.int32), torch.tensor(labels, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self) -> str:
        """SHA-256 of the stream: a resumed run must read what the first one read."""
        digest = hashlib.sha256(self.ids.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def window(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Return int64 inputs [length] from ``start`` and the labels of the token after each."""
        inputs = self.ids[start : start + length].long()
        labels = self.labels[start + 1 : start + 1 + length].long()
        return inputs, labels


class WindowSampler:
    """Draws batches of windows as a pure function of seed and step, so that a run resumes anywhere.

    Every pass over the stream cuts it at another offset and reads its windows in another order.
    """

    def __init__(self, stream: TokenStream, context: int, batch: int, seed: int) -> None:
        # One window is spared, so that each offset leaves the same number of whole windows.
        self._windows = (len(stream) - 1) // context - 1
        if self._windows < 1:
            raise TrainingError(
                f"the training text has {len(stream)} tokens; a context of {context} "
                f"needs at least {2 * context + 1}."
            )
        self._stream, self._context, self._batch, self._seed = stream, context, batch, seed
        self._order: tuple[int, Tensor] | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return int64 inputs and labels, each [batch * context], of training step ``step`` (from 0)."""
        first = step * self._batch
        windows = [self._window(index) for index in range(first, first + self._batch)]
        inputs, labels = zip(*windows, strict=True)
        return torch.cat(inputs), torch.cat(labels)

    def passes(self, steps: int) -> float:
        """How often ``steps`` steps read the whole stream."""
        return steps * self._batch / self._windows

    def _window(self, index: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(index, self._windows)
        return self._stream.window(int(self._starts(epoch)[place]), self._context)

    def _starts(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            offset = torch.randint(self._context, (1,), generator=generator)
            order = torch.randperm(self._windows, generator=generator)
            self._order = epoch, offset + order * self._context
        return self._order[1]
