"""The rows of a decode step in buffers that stay where they are, so that a captured graph finds them."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch

from farebox_engine.sampling.sampler import uniform
from farebox_engine.scheduling.sequence import Sequence

FRESH, SOURCE, POSITION, SLOT, LENGTH = range(5)
POINT, TEMPERATURE, TOP_K, TOP_P, MIN_P = range(5)


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One token of a sequence to be computed at `position`, and the next one sampled.

    The token is `token`, or still on the device: what row `source` of the step before chose.
    `index` is the number of tokens generated before the one to be sampled.
    """

    sequence: Sequence
    position: int
    index: int
    token: int = 0
    source: int = -1


class DeviceBatch:
    """What a decode step reads: [5, capacity] integers and numbers, and block tables.

    Every step writes all of it anew, rows that pad the batch included: a graph sees no
    length or table of an earlier step. Uploads come from pinned memory in two sets taken
    in turn, since a copy may still be under way when the next step is prepared.
    """

    def __init__(self, capacity: int, max_blocks: int, block_size: int, device: torch.device) -> None:
        self.capacity = capacity
        self._block_size = block_size
        self.integers = torch.zeros((5, capacity), dtype=torch.int64, device=device)
        self.numbers = torch.zeros((5, capacity), dtype=torch.float64, device=device)
        self.tables = torch.zeros((capacity, max_blocks), dtype=torch.int32, device=device)
        pinned = device.type == "cuda"
        self._stages = [_Stage(capacity, max_blocks, pinned) for _ in range(2)]
        self._turn = 0

    def upload(self, rows: Seq[DecodeRow], bucket: int) -> None:
        """Write `rows`, padded to `bucket` rows of no length, without waiting for the device."""
        stage = self._stages[self._turn]
        self._turn = 1 - self._turn
        width = 1
        integers, numbers = stage.integers.numpy(), stage.numbers.numpy()
        for place, row in enumerate(rows):
            blocks = row.sequence.blocks
            block, offset = divmod(row.position, self._block_size)
            slot = blocks[block] * self._block_size + offset
            integers[:, place] = (row.token, row.source, row.position, slot, row.position + 1)
            numbers[:, place] = _controls(row)
            stage.write_table(place, blocks, block + 1)
            width = max(width, block + 1)
        integers[:, len(rows) : bucket] = [[0], [-1], [0], [-1], [0]]
        numbers[:, len(rows) : bucket] = [[0], [0], [0], [1], [0]]
        self.integers.copy_(stage.integers, non_blocking=True)
        self.numbers.copy_(stage.numbers, non_blocking=True)
        count = len(rows)
        self.tables[:count, :width].copy_(stage.tables[:count, :width], non_blocking=True)


class _Stage:
    """One set of buffers on the host; tables are rewritten only where they changed."""

    def __init__(self, capacity: int, max_blocks: int, pinned: bool) -> None:
        self.integers = torch.zeros((5, capacity), dtype=torch.int64, pin_memory=pinned)
        self.numbers = torch.zeros((5, capacity), dtype=torch.float64, pin_memory=pinned)
        self.tables = torch.zeros((capacity, max_blocks), dtype=torch.int32, pin_memory=pinned)
        self._array = self.tables.numpy()
        # The list itself tells tables apart: a sequence that lost its blocks gets another one.
        self._written: list[tuple[list[int], int]] = [([], 0)] * capacity

    def write_table(self, place: int, blocks: list[int], count: int) -> None:
        known, written = self._written[place]
        start = written if known is blocks else 0
        if start < count:
            self._array[place, start:count] = blocks[start:count]
        self._written[place] = (blocks, max(start, count))


def _controls(row: DecodeRow) -> tuple[float, float, float, float, float]:
    params = row.sequence.request.params
    if params.greedy:
        return 0.0, 0.0, 0.0, 1.0, 0.0
    point = uniform(row.sequence.request.seed, row.index)
    return point, params.temperature, float(params.top_k), params.top_p, params.min_p
