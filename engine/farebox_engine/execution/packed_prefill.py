"""Spans of several prompts laid end to end, so that one call computes their attention."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.kernels.varlen import PackedAttention
from farebox_engine.layers.attention import AttentionRule
from farebox_engine.scheduling.sequence import Span

# Keys gathered for one call at most: 2 GB of an 8B Llama's in 16 bits, which a step's slack must hold.
MOST_KEYS = 1 << 19


@dataclass(frozen=True, slots=True)
class PackedSpans:
    """Spans in one call; ``slots`` int64 [Tk] are those of their keys in the cache.

    ``slots`` is ``None`` where all are whole prompts, which see the step's own keys alone.
    """

    rows: slice
    slots: Tensor | None
    cu_seq_q: Tensor
    cu_seq_k: Tensor
    max_q: int
    max_k: int
    attention: PackedAttention

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, rule: AttentionRule) -> Tensor:
        """Attention of the spans' rows to the same rows' keys, or to a layer of the cache."""
        if self.slots is not None:
            keys = keys.flatten(0, 1).index_select(0, self.slots)
            values = values.flatten(0, 1).index_select(0, self.slots)
        return self.attention(
            query, keys, values, self.cu_seq_q, self.cu_seq_k, self.max_q, self.max_k, scale=rule.scale
        )


def pack_spans(
    members: Seq[tuple[slice, Span]],
    block_size: int,
    device: torch.device,
    attention: PackedAttention,
    most_keys: int = MOST_KEYS,
) -> list[PackedSpans]:
    """As few packs as hold the spans with their rows: one, unless rows lie apart or keys are too many."""
    packs: list[list[tuple[slice, Span]]] = []
    keys = 0
    for rows, span in members:
        keys += span.stop
        if not packs or packs[-1][-1][0].stop != rows.start or keys > most_keys:
            packs.append([])
            keys = span.stop
        packs[-1].append((rows, span))
    return [_pack(pack, block_size, device, attention) for pack in packs]


def _pack(
    members: list[tuple[slice, Span]], block_size: int, device: torch.device, attention: PackedAttention
) -> PackedSpans:
    spans = [span for _, span in members]
    fresh = all(span.start == 0 for span in spans)
    return PackedSpans(
        rows=slice(members[0][0].start, members[-1][0].stop),
        slots=None if fresh else torch.cat([_slots(span, block_size) for span in spans]).to(device),
        cu_seq_q=_starts([span.length for span in spans], device),
        cu_seq_k=_starts([span.stop for span in spans], device),
        max_q=max(span.length for span in spans),
        max_k=max(span.stop for span in spans),
        attention=attention,
    )


def _slots(span: Span, block_size: int) -> Tensor:
    """The slots of all tokens up to the span's end, int64 [stop] on the host."""
    blocks = torch.tensor(span.sequence.blocks[: -(-span.stop // block_size)])
    return (blocks[:, None] * block_size + torch.arange(block_size)).flatten()[: span.stop]


def _starts(lengths: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
