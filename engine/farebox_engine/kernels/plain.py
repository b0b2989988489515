"""What the kernels compute, in plain torch: the reference for their tests, and the stand-in without a GPU."""

from __future__ import annotations

import itertools

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


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """See `farebox_engine.kernels.narrow.quantize_rows`."""
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
    """See `torch.nn.attention.varlen.varlen_attn`; computed in fp32, one sequence after the other.

    Raises:
        ValueError: query and key heads differ in number, but ``enable_gqa`` is not set.
    """
    del max_q, max_k
    if not enable_gqa and query.shape[1] != key.shape[1]:
        raise ValueError(f"{query.shape[1]} query heads and {key.shape[1]} key heads without enable_gqa.")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    group = query.shape[1] // key.shape[1]
    output = torch.empty_like(query)
    bounds = zip(cu_seq_q.tolist(), cu_seq_k.tolist(), strict=True)
    for (first_q, first_k), (stop_q, stop_k) in itertools.pairwise(bounds):
        queries = query[first_q:stop_q].float()
        keys, values = (
            states[first_k:stop_k].float().repeat_interleave(group, dim=1) for states in (key, value)
        )
        scores = scale * torch.einsum("qhd,khd->hqk", queries, keys)
        scores.masked_fill_(~_seen(stop_q - first_q, stop_k - first_k, window_size, query.device), -torch.inf)
        output[first_q:stop_q] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).to(query.dtype)
    return output


def _seen(queries: int, keys: int, window_size: tuple[int, int], device: torch.device) -> Tensor:
    """Who sees whom, bool [queries, keys]; the last query stands at the last key."""
    positions = torch.arange(keys, device=device)
    behind = positions[keys - queries :, None] - positions
    left, right = window_size
    seen = torch.ones_like(behind, dtype=torch.bool)
    if left >= 0:
        seen &= behind <= left
    if right >= 0:
        seen &= behind >= -right
    return seen
