"""The parts of an engine, put together."""

from __future__ import annotations

from farebox_engine.accounting import CostModel, DeviceLedger
from farebox_engine.blocks import BlockPool
from farebox_engine.core import EngineCore
from farebox_engine.kv_cache import KVCache
from farebox_engine.loader import LoadedModel
from farebox_engine.options import EngineConfig
from farebox_engine.runner import ModelRunner
from farebox_engine.scheduler import Scheduler
from farebox_engine.sizing import num_blocks


def build_cache(loaded: LoadedModel, config: EngineConfig, context: int) -> tuple[BlockPool, ModelRunner]:
    """An empty KV cache, and the model running on it.

    Raises:
        LoadError: the cache that the settings ask for is too small for one context.
    """
    blocks = num_blocks(loaded, config, context)
    cache = KVCache(
        loaded.config,
        num_blocks=blocks,
        block_size=config.block_size,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    return BlockPool(blocks), ModelRunner(loaded.model, cache)


def build_core(loaded: LoadedModel, config: EngineConfig, context: int) -> EngineCore:
    """An engine's core; `context` is the longest sequence, in tokens."""
    device = loaded.device
    pool, runner = build_cache(loaded, config, context)
    scheduler = Scheduler(
        pool,
        block_size=config.block_size,
        token_budget=config.tokens_per_step(device),
        max_running=config.running_limit(device),
        # Where keys depend on the length, drafts past a certain one would need other keys.
        drafts=0 if loaded.model.lengths_matter else config.drafts(device),
    )
    cost = CostModel.of(
        loaded.config,
        parameters=loaded.parameters,
        item_bytes=loaded.dtype.itemsize,
        on_gpu=device.type == "cuda",
    )
    return EngineCore(scheduler, pool, runner, DeviceLedger(cost))
