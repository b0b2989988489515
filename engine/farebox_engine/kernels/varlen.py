"""torch's variable-length attention for prompts, where this machine proves to have it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from farebox_engine.kernels import plain

_TOLERANCE = 4e-2


class PackedAttention(Protocol):
    """Causal attention within each of S sequences that are laid end to end.

    ``query`` is [Tq, num_heads, head_dim], ``key`` and ``value`` [Tk, num_kv_heads, head_dim]; sequence s
    has the rows from ``cu_seq_q[s]`` to ``cu_seq_q[s + 1]`` and ``cu_seq_k`` alike, int32 [S + 1]. A
    sequence's last query sees all its keys, the one before it all but the last, and so on. Returns
    [Tq, num_heads, head_dim].
    """

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None,
    ) -> Tensor: ...


class UnusableAttentionError(RuntimeError):
    """The attention fails on this device, or computes something else."""


def causal(varlen_attn: Callable[..., Any]) -> PackedAttention:
    """A function with the signature of `torch.nn.attention.varlen.varlen_attn` as `PackedAttention`.

    In torch 2.11 query heads share key heads unasked; later versions want to be asked.
    """
    asked = "enable_gqa" in inspect.signature(varlen_attn).parameters
    options = {"enable_gqa": True} if asked else {}
    return functools.partial(varlen_attn, window_size=(-1, 0), **options)


def try_out(
    varlen_attn: Callable[..., Any], head_dim: int, dtype: torch.dtype, device: torch.device
) -> PackedAttention:
    """`causal(varlen_attn)`, once it has computed a small case right.

    What it takes (flash attention: 16 bits, head_dim up to 256 in steps of 8, compute capability 8.0)
    differs between versions of torch and builds of it; so it is asked, not looked up.

    Raises:
        UnusableAttentionError: it refuses the case or gets it wrong; says why.
    """
    attention = causal(varlen_attn)
    generator = torch.Generator().manual_seed(0)
    # A whole prompt of 3 tokens, then 2 tokens after 5; two query heads to a key head.
    shapes = ((5, 4, head_dim), (10, 2, head_dim), (10, 2, head_dim))
    query, key, value = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    starts_q, starts_k = (
        torch.tensor(starts, dtype=torch.int32, device=device) for starts in ([0, 3, 5], [0, 3, 10])
    )
    arguments = query, key, value, starts_q, starts_k, 3, 7
    try:
        with torch.inference_mode():
            found = attention(*arguments, scale=0.25)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnusableAttentionError(str(error).partition("\n")[0]) from error
    expected = causal(plain.varlen_attn)(*arguments, scale=0.25)
    if not torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
        worst = float((found.float() - expected.float()).abs().max())
        raise UnusableAttentionError(f"a small case is off by up to {worst:g}")
    return attention
