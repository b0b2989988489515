"""The parts of a decoder's engine, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from farebox_engine.config import EngineConfig
from farebox_engine.decoders.accounting import DecoderAccounting, DecoderCost
from farebox_engine.decoders.core import DecoderCore
from farebox_engine.decoders.intake import DecoderIntake
from farebox_engine.decoders.sizing import context_length, num_blocks
from farebox_engine.execution.choose_runner import build_runner
from farebox_engine.execution.kv_cache import KVCache, KVShape
from farebox_engine.execution.runner import Runner
from farebox_engine.grammar.compiler import GrammarCompiler
from farebox_engine.lora.store import AdapterStore
from farebox_engine.models.loader import LoadedModel
from farebox_engine.models.registry import CausalLM
from farebox_engine.quantization.prepare import prepare_linears
from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.scheduling.scheduler import Scheduler
from farebox_engine.serving.device_ledger import DeviceLedger
from farebox_engine.serving.engine_parts import EngineParts
from farebox_engine.serving.runner_slot import RunnerSlot


class BuildRunner(Protocol):
    """See `choose_runner.build_runner`."""

    def __call__(self, model: CausalLM, cache: KVCache, *, capacity: int, max_blocks: int) -> Runner: ...


@dataclass(frozen=True)
class Layout:
    """How a model is laid out on its device: its linear layers, and what runs it. See the defaults."""

    prepare: Callable[[nn.Module, str | None, torch.device], None] = prepare_linears
    build_runner: BuildRunner = build_runner


def assemble_decoder(loaded: LoadedModel, config: EngineConfig, layout: Layout) -> EngineParts:
    """What an engine serves a decoder with.

    Raises:
        LoadError: the settings do not fit the model or the device.
    """
    context = context_length(loaded, config)
    # Before the core packs the projections: what can be adapted is read off their weights.
    adapters = AdapterStore(loaded)
    return EngineParts(
        core=build_core(loaded, config, context, layout),
        intake=DecoderIntake(loaded, context, adapters),
        tokenizer=loaded.tokenizer,
        context_length=context,
        block_bytes=KVShape.of_decoder(loaded.config).bytes_per_token(loaded.dtype) * config.block_size,
        model_hash=loaded.model_hash,
        defaults=loaded.defaults,
        grammars=GrammarCompiler(
            loaded.tokenizer.vocabulary,
            loaded.tokenizer.encode_plainly,
            loaded.config.vocab_size,
            loaded.eos_token_ids,
        ),
        adapters=adapters,
    )


def build_cache(
    loaded: LoadedModel, config: EngineConfig, context: int, layout: Layout
) -> tuple[BlockPool, Runner]:
    """An empty KV cache, and the model running on it.

    Raises:
        LoadError: the cache that the settings ask for is too small for one context.
    """
    blocks = num_blocks(loaded, config, context)
    cache = KVCache(
        KVShape.of_decoder(loaded.config),
        num_blocks=blocks,
        block_size=config.block_size,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    runner = layout.build_runner(
        loaded.model,
        cache,
        capacity=config.running_limit(loaded.device),
        max_blocks=-(-context // config.block_size),
    )
    return BlockPool(blocks), runner


def build_core(loaded: LoadedModel, config: EngineConfig, context: int, layout: Layout) -> DecoderCore:
    """An engine's core; `context` is the longest sequence, in tokens.

    Raises:
        LoadError: the settings do not fit the model or the device.
    """
    device = loaded.device
    # Once, since the packed model outlives its caches.
    if isinstance(loaded.model, nn.Module):
        layout.prepare(loaded.model, config.quantization, device)
    slot = RunnerSlot(lambda: build_cache(loaded, config, context, layout))
    scheduler = Scheduler(
        slot.pool,
        block_size=config.block_size,
        token_budget=config.tokens_per_step(device),
        max_running=config.running_limit(device),
        # Where keys depend on the length, drafts past a certain one would need other keys. A
        # runner that computes ahead has begun on the next token before it could be guessed.
        drafts=0 if loaded.model.lengths_matter or slot.runner.lookahead else config.drafts(device),
        lookahead=slot.runner.lookahead,
    )
    cost = DecoderCost.of(
        loaded.config,
        weight_bytes=loaded.parameters * (1 if config.quantization else loaded.dtype.itemsize),
        parameters=loaded.parameters,
        item_bytes=loaded.dtype.itemsize,
        on_gpu=device.type == "cuda",
    )
    return DecoderCore(scheduler, slot, DecoderAccounting(cost, DeviceLedger()))
