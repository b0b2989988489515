"""Reading what a translator is trained on: pairs of texts, one a line, tab-separated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from farebox_engine.training.errors import TrainingError

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and what it is to become."""

    source: str
    target: str


def read_pairs(path: Path) -> list[Pair]:
    """Read a file of ``source<TAB>target`` lines; further columns (an attribution) are left alone.

    Raises:
        TrainingError: the file cannot be read, or a line has no two columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as text: {error}.") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        columns = [column.strip() for column in line.split("\t")]
        if not line.strip():
            continue
        if len(columns) < 2 or not columns[0] or not columns[1]:
            raise TrainingError(f"{path}, line {number}: a source, a tab and a target are needed.")
        pairs.append(Pair(columns[0], columns[1]))
    return pairs


def hold_out_sources(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split off about ``share`` of the distinct sources with all their targets.

    A sentence with several translations is then either learned or held out, never both.
    """
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(sources), generator=generator) < share
    held = {source for source, take in zip(sources, drawn.tolist(), strict=True) if take}
    return [pair for pair in pairs if pair.source not in held], [
        pair for pair in pairs if pair.source in held
    ]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """int64 ``sources`` [B, S], ``inputs`` [B, T] and ``labels`` [B, T]; ``real``, bool [B, S].

    Padded with the start token; a label of -100 does not count.
    """

    sources: Tensor
    real: Tensor
    inputs: Tensor
    labels: Tensor


class PairSampler:
    """Draws batches of pairs of similar length as a pure function of seed and step."""

    def __init__(
        self, pairs: Sequence[Pair], tokenizer: Tokenizer, *, start: int, context: int, batch: int, seed: int
    ) -> None:
        """``batch`` counts pairs; those longer than ``context`` tokens on a side are left out.

        Raises:
            TrainingError: fewer pairs than one batch are left.
        """
        encoded = [(tokenizer.encode(pair.source).ids, tokenizer.encode(pair.target).ids) for pair in pairs]
        self._pairs = [pair for pair in encoded if max(map(len, pair)) <= context]
        if len(self._pairs) < batch:
            raise TrainingError(f"{len(self._pairs)} pairs are left to train on; one batch has {batch}.")
        self._start, self._batch, self._seed = start, batch, seed
        self._epoch: tuple[int, list[list[int]]] | None = None

    @property
    def batches(self) -> int:
        """How many batches are a pass over all pairs (but for less than a batch)."""
        return len(self._pairs) // self._batch

    @property
    def target_tokens(self) -> int:
        """How many target tokens a batch has on average."""
        return self._batch * sum(len(target) for _, target in self._pairs) // len(self._pairs)

    def batch(self, step: int) -> PairBatch:
        """The batch of training step ``step`` (from 0)."""
        epoch, place = divmod(step, self.batches)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, list(self._cut(epoch))
        chosen = [self._pairs[index] for index in self._epoch[1][place]]
        sources = [source for source, _ in chosen]
        inputs = [[self._start, *target[:-1]] for _, target in chosen]
        return PairBatch(
            sources=_padded(sources, self._start),
            real=_padded([[1] * len(source) for source in sources], 0).bool(),
            inputs=_padded(inputs, self._start),
            labels=_padded([target for _, target in chosen], IGNORED),
        )

    def _cut(self, epoch: int) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._pairs), generator=generator).tolist()
        # Stable, so that equally long pairs stay shuffled.
        order.sort(key=lambda index: (len(self._pairs[index][1]), len(self._pairs[index][0])))
        cuts = torch.randperm(self.batches, generator=generator).tolist()
        for cut in cuts:
            yield order[cut * self._batch : (cut + 1) * self._batch]


def _padded(rows: list[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])
