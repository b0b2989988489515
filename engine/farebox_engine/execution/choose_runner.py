"""Which runner a model gets on its device."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import cast

import torch

from farebox_engine.execution.decode_graph import CudaCapture, DecodeKernels
from farebox_engine.execution.device_runner import DeviceRunner
from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.execution.runner import ModelRunner, Runner
from farebox_engine.kernels.varlen import PackedAttention, UnusableAttentionError, try_out
from farebox_engine.models.registry import CausalLM

_log = logging.getLogger(__name__)


def build_runner(model: CausalLM, cache: KVCache, *, capacity: int, max_blocks: int) -> Runner:
    """A `DeviceRunner` on a GPU where triton is installed, a `ModelRunner` otherwise.

    A model whose rotations depend on the length of the prompt reads lengths back in each step,
    which no graph can hold. `capacity` is the number of sequences at once, `max_blocks` that of
    blocks of the longest.
    """
    device = cache.keys[0].device
    if device.type != "cuda":
        return ModelRunner(model, cache)
    packed = packed_attention(cache)
    if model.lengths_matter or importlib.util.find_spec("triton") is None:
        return ModelRunner(model, cache, packed)
    # By name, because only a machine with a GPU need have triton.
    kernels = importlib.import_module("farebox_engine.kernels.paged_decode")
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    kv_heads = cache.keys[0].shape[2]
    return DeviceRunner(
        model,
        cache,
        capacity=capacity,
        max_blocks=max_blocks,
        kernels=cast(DecodeKernels, kernels),
        splits=lambda bucket: kernels.choose_splits(bucket, kv_heads, processors),
        capture=CudaCapture(device),
        packed=packed,
    )


def packed_attention(cache: KVCache) -> PackedAttention | None:
    """torch's attention over packed prompts, ``None`` where it does not serve such a cache."""
    keys = cache.keys[0]
    # By name and only here, because it brings torch's compiler along: 900 modules, 140 MiB.
    varlen = importlib.import_module("torch.nn.attention.varlen")
    try:
        return try_out(varlen.varlen_attn, keys.shape[-1], keys.dtype, keys.device)
    except UnusableAttentionError as error:
        _log.info("Prompts are computed one at a time, without packed attention: %s", error)
        return None
