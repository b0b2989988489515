"""What the kernels compute, in plain torch: the reference for their tests, and the stand-in without a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from farebox_engine.layers.attention import CAUSAL, AttentionRule


def store_kv(keys: Tensor, values: Tensor, slots: Tensor, key: Tensor, value: Tensor) -> None:
    """See `farebox_engine.kernels.paged_decode.store_kv`."""
    rows = slots >= 0
    keys.flatten(0, 1)[slots[rows]] = key[rows]
    values.flatten(0, 1)[slots[rows]] = value[rows]


def paged_decode(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    rule: AttentionRule = CAUSAL,
    splits: int = 1,
) -> Tensor:
    """See `farebox_engine.kernels.paged_decode.paged_decode`; computed in fp32."""
    del splits
    scale = query.shape[-1] ** -0.5 if rule.scale is None else rule.scale
    group = query.shape[1] // keys.shape[2]
    output = torch.zeros_like(query)
    for row, length in enumerate(lengths.tolist()):
        if length == 0:
            continue
        blocks = tables[row, : -(-length // keys.shape[1])].long()
        first = 0 if rule.window is None else max(0, length - rule.window)
        key = keys[blocks].flatten(0, 1)[first:length].float().repeat_interleave(group, dim=1)
        value = values[blocks].flatten(0, 1)[first:length].float().repeat_interleave(group, dim=1)
        scores = scale * torch.einsum("hd,lhd->hl", query[row].float(), key)
        if rule.softcap is not None:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        output[row] = torch.einsum("hl,lhd->hd", scores.softmax(-1), value).to(query.dtype)
    return output
