"""Keys and values in blocks, as all families that generate keep them."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.checkpoint.config import DecoderConfig


@dataclass(frozen=True, slots=True)
class KVShape:
    """What is kept of a token: in each of `layers` a key and a value, [kv_heads, head_dim] each."""

    layers: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of_decoder(cls, config: DecoderConfig) -> KVShape:
        return cls(config.num_layers, config.num_kv_heads, config.head_dim)

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype.itemsize


class KVCache:
    """The keys and values of all layers, each [num_blocks, block_size, kv_heads, head_dim].

    Zeroed, not left empty: attention multiplies masked slots by zero, and a NaN would survive that.
    """

    def __init__(
        self,
        shape: KVShape,
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.block_size = block_size
        self.device = device
        sizes = (num_blocks, block_size, shape.kv_heads, shape.head_dim)
        self.keys = [torch.zeros(sizes, dtype=dtype, device=device) for _ in range(shape.layers)]
        self.values = [torch.zeros(sizes, dtype=dtype, device=device) for _ in range(shape.layers)]

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Store `key` and `value` [T, kv_heads, head_dim] at flat token slots int64 [T]."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, key)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, value)

    def copy(self, pairs: Seq[tuple[int, int]]) -> None:
        """Copy whole blocks, each pair from the first to the second."""
        if pairs:
            origins, targets = (self.index(list(side)) for side in zip(*pairs, strict=True))
            for blocks in (*self.keys, *self.values):
                blocks.index_copy_(0, targets, blocks.index_select(0, origins))

    def clear(self, blocks: Seq[int]) -> None:
        """Zero blocks that may hold NaN."""
        for tensor in (*self.keys, *self.values):
            tensor[list(blocks)] = 0

    def slots(self, blocks: Seq[int], start: int, stop: int) -> list[int]:
        """The flat slots of positions `start` to `stop` of what fills `blocks`."""
        size = self.block_size
        return [blocks[position // size] * size + position % size for position in range(start, stop)]

    def index(self, values: Seq[int]) -> Tensor:
        """`values` as int64 on the cache's device."""
        return torch.tensor(values, dtype=torch.int64, device=self.device)
