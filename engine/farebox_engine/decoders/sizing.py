"""How long a context and how many KV blocks a model gets on this machine."""

from __future__ import annotations

import torch

from farebox_engine.config import EngineConfig
from farebox_engine.errors import LoadError
from farebox_engine.execution.kv_cache import KVShape
from farebox_engine.machine import check_context
from farebox_engine.models.loader import LoadedModel

_GPU_FREE_SHARE = 0.8  # the rest is for activations and the allocator's slack


def context_length(loaded: LoadedModel, config: EngineConfig) -> int:
    """The longest sequence, in tokens.

    Raises:
        LoadError: the setting is longer than the model's positions reach.
    """
    trained = loaded.config.max_position_embeddings
    if config.context_length is None:
        return trained
    if config.context_length > trained and not loaded.config.extensible:
        raise LoadError(
            f"The engine setting context_length is {config.context_length}, "
            f"but the model knows {trained} positions; choose at most that."
        )
    return config.context_length


def num_blocks(loaded: LoadedModel, config: EngineConfig, context: int) -> int:
    """KV blocks that fit into the memory meant for them; at least enough for one full context.

    Raises:
        LoadError: `kv_cache_bytes`, `cache_room` or all memory there is holds less than one context.
    """
    block_bytes = KVShape.of_decoder(loaded.config).bytes_per_token(loaded.dtype) * config.block_size
    least = -(-context // config.block_size)
    check_context(loaded.device, tokens=context, needed=least * block_bytes)
    if config.kv_cache_bytes is not None:
        blocks = config.kv_cache_bytes // block_bytes
        if blocks < least:
            raise LoadError(
                f"The engine setting kv_cache_bytes is {config.kv_cache_bytes}; one context of {context} "
                f"tokens needs {least * block_bytes}: raise it or lower context_length."
            )
        return blocks
    if loaded.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(loaded.device)
        budget = int(free * _GPU_FREE_SHARE)
    else:
        budget = config.cpu_cache_bytes(least * block_bytes)
    # More than every running sequence at full length can never be used.
    most = least * config.running_limit(loaded.device)
    return max(least, min(most, budget // block_bytes))
