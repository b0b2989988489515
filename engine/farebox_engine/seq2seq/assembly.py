"""The parts of an encoder-decoder engine, put together."""

from __future__ import annotations

from farebox_engine.config import EngineConfig
from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.seq2seq.accounting import Seq2SeqAccounting, Seq2SeqCost
from farebox_engine.seq2seq.beam import BeamSearch
from farebox_engine.seq2seq.constraints import Constraints
from farebox_engine.seq2seq.core import Seq2SeqCore
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.intake import Seq2SeqIntake
from farebox_engine.seq2seq.loader import LoadedSeq2Seq
from farebox_engine.seq2seq.runner import Seq2SeqRunner
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from farebox_engine.seq2seq.sizing import Sizes, fit
from farebox_engine.seq2seq.source_tokenizer import SourceTokenizer
from farebox_engine.serving.device_ledger import DeviceLedger
from farebox_engine.serving.engine_parts import EngineParts
from farebox_engine.serving.runner_slot import RunnerSlot


def assemble_seq2seq(loaded: LoadedSeq2Seq, config: EngineConfig) -> EngineParts:
    """What an engine serves an encoder-decoder with.

    Raises:
        LoadError: the settings do not fit the model or the machine.
    """
    sizes = fit(loaded, config)
    return EngineParts(
        core=build_core(loaded, config, sizes),
        intake=Seq2SeqIntake(loaded, sizes),
        tokenizer=SourceTokenizer(loaded.tokenizer),
        context_length=sizes.source_length + sizes.target_length,
        block_bytes=loaded.model.dimensions.kv_shape.bytes_per_token(loaded.dtype) * config.block_size,
        model_hash=loaded.model_hash,
        # Where a request is silent, the likeliest target is looked for, by beams if the model says so.
        defaults=GenerationDefaults(temperature=0.0, max_new_tokens=loaded.defaults.max_tokens),
    )


def build_cache(loaded: LoadedSeq2Seq, sizes: Sizes) -> tuple[BlockPool, Seq2SeqRunner]:
    """An empty cache, and the model running on it."""
    cache = KVCache(
        loaded.model.dimensions.kv_shape,
        num_blocks=sizes.num_blocks,
        block_size=sizes.block_size,
        dtype=loaded.dtype,
        device=loaded.device,
    )
    return BlockPool(sizes.num_blocks), Seq2SeqRunner(loaded.model, cache)


def build_core(loaded: LoadedSeq2Seq, config: EngineConfig, sizes: Sizes) -> Seq2SeqCore:
    """An engine's core."""
    device, dimensions = loaded.device, loaded.model.dimensions
    slot = RunnerSlot(lambda: build_cache(loaded, sizes))

    def plan(sequence: Sequence) -> Decoding:
        return _plan(loaded, sizes, sequence)

    scheduler = Seq2SeqScheduler(
        slot.pool,
        plan,
        block_size=sizes.block_size,
        token_budget=config.tokens_per_step(device),
        max_hypotheses=sizes.max_hypotheses,
    )
    cost = Seq2SeqCost(
        encoder_parameters=loaded.encoder_parameters,
        decoder_parameters=loaded.decoder_parameters,
        encoder_attention_width=dimensions.encoder_layers * dimensions.encoder_width,
        decoder_attention_width=dimensions.decoder_layers * dimensions.decoder_width,
        item_bytes=loaded.dtype.itemsize,
        # As in `DecoderCost`.
        operations_per_byte=200.0 if device.type == "cuda" else 10.0,
    )
    return Seq2SeqCore(scheduler, slot, Seq2SeqAccounting(cost, DeviceLedger()))


def _plan(loaded: LoadedSeq2Seq, sizes: Sizes, sequence: Sequence) -> Decoding:
    """The hypotheses a request begins with, and how they are to be searched."""
    params, defaults = sequence.request.params, loaded.defaults
    num_beams = defaults.beams_for(params)
    beams = None
    if num_beams > 1:
        beams = BeamSearch(
            num_beams,
            limit=sequence.token_limit,
            end_token_ids=sequence.end_token_ids,
            length_penalty=(
                defaults.length_penalty if params.length_penalty is None else params.length_penalty
            ),
            early_stopping=defaults.early_stopping,
        )
    return Decoding(
        sequence=sequence,
        constraints=Constraints(defaults, sequence),
        beams=beams,
        rows=[Hypothesis([defaults.start_token_id]) for _ in range(num_beams)],
        reserved=sizes.blocks(sequence, num_beams),
    )
