"""How long sources and targets may be, and how many blocks they get on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from farebox_engine.config import EngineConfig
from farebox_engine.errors import LoadError
from farebox_engine.machine import check_context
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.seq2seq.loader import LoadedSeq2Seq

_GPU_FREE_SHARE = 0.8  # the rest is for activations and the allocator's slack


@dataclass(frozen=True, slots=True)
class Sizes:
    """Limits of one engine; lengths in tokens."""

    source_length: int
    target_length: int
    block_size: int
    num_blocks: int
    max_hypotheses: int

    def blocks(self, sequence: Sequence, num_beams: int) -> int:
        """The most blocks that a request may come to hold."""
        return self._for(sequence.prompt_length) + num_beams * self._for(sequence.token_limit)

    def _for(self, length: int) -> int:
        return -(-length // self.block_size)


def fit(loaded: LoadedSeq2Seq, config: EngineConfig) -> Sizes:
    """The sizes that a model gets.

    Raises:
        LoadError: `context_length` is longer than the model's positions reach, or
            `kv_cache_bytes`, `cache_room` or all memory there is holds less than the longest request.
    """
    source, target = _lengths(loaded, config)
    size, limit = config.block_size, config.running_limit(loaded.device)
    num_beams = loaded.defaults.num_beams
    if num_beams > limit:
        raise LoadError(
            f"The engine setting max_running is {limit}, but the checkpoint's generation_config.json "
            f"asks for {num_beams} beams; allow at least as many."
        )
    block_bytes = loaded.model.dimensions.kv_shape.bytes_per_token(loaded.dtype) * size
    least = -(-source // size) + num_beams * -(-target // size)
    check_context(loaded.device, tokens=source + target, needed=least * block_bytes)
    # More than every hypothesis and its own source at full length can never be used.
    most = limit * (-(-source // size) + -(-target // size))
    blocks = _budget(loaded, config, least * block_bytes) // block_bytes
    if config.kv_cache_bytes is not None and blocks < least:
        raise LoadError(
            f"The engine setting kv_cache_bytes is {config.kv_cache_bytes}; the longest request "
            f"needs {least * block_bytes}: raise it or lower context_length."
        )
    return Sizes(source, target, size, max(least, min(most, blocks)), limit)


def _lengths(loaded: LoadedSeq2Seq, config: EngineConfig) -> tuple[int, int]:
    dimensions = loaded.model.dimensions
    lengths = dimensions.source_length, dimensions.target_length
    if config.context_length is None:
        return lengths
    if config.context_length > min(lengths) and not dimensions.extrapolates:
        raise LoadError(
            f"The engine setting context_length is {config.context_length}, "
            f"but the model knows {min(lengths)} positions; choose at most that."
        )
    return config.context_length, config.context_length


def _budget(loaded: LoadedSeq2Seq, config: EngineConfig, needed: int) -> int:
    """Bytes for the cache, of which `needed` are for the longest request."""
    if config.kv_cache_bytes is not None:
        return config.kv_cache_bytes
    if loaded.device.type != "cuda":
        return config.cpu_cache_bytes(needed)
    free, _ = torch.cuda.mem_get_info(loaded.device)
    return int(free * _GPU_FREE_SHARE)
