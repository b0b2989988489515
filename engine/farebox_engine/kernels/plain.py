"""What the kernels compute, in plain torch: the reference for their tests, and the stand-in without a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from farebox_engine.layers.attention import CAUSAL, AttentionRule

# The largest finite number of e4m3 (Micikevicius et al. 2022, arXiv 2209.05433).
FP8_PEAK = 448.0


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


def int8_linear(
    rows: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None = None, processors: int = 1
) -> Tensor:
    """See `farebox_engine.kernels.narrow.int8_linear`; summed in fp32."""
    del processors
    output = functional.linear(rows.float(), weight.float()) * scales
    return (output if bias is None else output + bias.float()).to(rows.dtype)


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """See `farebox_engine.kernels.narrow.quantise_rows`."""
    wide = rows.float()
    scales = wide.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / FP8_PEAK
    return (wide / scales).clamp(-FP8_PEAK, FP8_PEAK).to(torch.float8_e4m3fn), scales


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` computes on a GPU; in fp32, one sequence at a time.

    `query` [T_q, H_q, D], `key` and `value` [T_k, H_kv, D] hold sequences end to end; those of number i
    lie from `cu_seq_q[i]` and `cu_seq_k[i]` to the next. A sequence's last query stands at its last key,
    and sees `window_size` keys to its left and right, -1 for all.
    """
    del max_q, max_k
    group = query.shape[1] // key.shape[1]
    if group != 1 and not enable_gqa:
        raise ValueError("Query and key have different numbers of heads.")
    left, right = window_size
    output = torch.empty_like(query)
    starts_q, starts_k = cu_seq_q.tolist(), cu_seq_k.tolist()
    for place in range(len(starts_q) - 1):
        q_rows = slice(starts_q[place], starts_q[place + 1])
        k_rows = slice(starts_k[place], starts_k[place + 1])
        queries = query[q_rows].float() * (query.shape[2] ** -0.5 if scale is None else scale)
        keys, values = (states[k_rows].float().repeat_interleave(group, dim=1) for states in (key, value))
        behind = _distances(queries.shape[0], keys.shape[0], query.device)
        hidden = torch.zeros_like(behind, dtype=torch.bool)
        if left >= 0:
            hidden |= behind > left
        if right >= 0:
            hidden |= -behind > right
        scores = torch.einsum("qhd,khd->hqk", queries, keys).masked_fill(hidden, -torch.inf)
        output[q_rows] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).to(query.dtype)
    return output


def _distances(queries: int, keys: int, device: torch.device) -> Tensor:
    """How far each key lies behind each query [queries, keys], the last of both side by side."""
    at = torch.arange(keys - queries, keys, device=device)
    return at[:, None] - torch.arange(keys, device=device)
