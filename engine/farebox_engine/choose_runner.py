"""Which runner a model gets on its device."""

from __future__ import annotations

import importlib
import importlib.util
from typing import cast

import torch

from farebox_engine.decode_graph import CudaCapture, DecodeKernels
from farebox_engine.device_runner import DeviceRunner
from farebox_engine.kv_cache import KVCache
from farebox_engine.registry import CausalLM
from farebox_engine.runner import ModelRunner, Runner


def build_runner(model: CausalLM, cache: KVCache, *, capacity: int, max_blocks: int) -> Runner:
    """A `DeviceRunner` on a GPU where triton is installed, a `ModelRunner` otherwise.

    A model whose rotations depend on the length of the prompt reads lengths back in each step,
    which no graph can hold. `capacity` is the number of sequences at once, `max_blocks` that of
    blocks of the longest.
    """
    device = cache.keys[0].device
    if device.type != "cuda" or model.lengths_matter or importlib.util.find_spec("triton") is None:
        return ModelRunner(model, cache)
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
    )
