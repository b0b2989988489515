"""Encoder-decoders against `transformers`: logits, and greedy tokens under every way of computing them."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.seq2seq.cached_attention import CachedAttention
from farebox_engine.seq2seq.loader import LoadedSeq2Seq, load_seq2seq
from farebox_engine.seq2seq.runner import Seq2SeqRunner
from tests.engine.generating import Answer, collect, random_prompts
from tests.engine.seq2seq.checkpoints import START, VOCAB_SIZE
from tests.engine.seq2seq.conftest import StartSeq2Seq
from tests.engine.seq2seq.decodings import make_decoding
from tests.engine.seq2seq.generating import expected, target, targets, translate

LENGTHS = (1, 3, 15, 16, 17, 17, 40, 71)


@torch.inference_mode()
def cached_logits(
    loaded: LoadedSeq2Seq, sources: list[list[int]], wanted: list[list[int]]
) -> list[torch.Tensor]:
    """Logits [length, vocab] after each token of `wanted`, the sources encoded and decoded side by side."""
    cache = KVCache(
        loaded.model.dimensions.kv_shape,
        num_blocks=96,
        block_size=16,
        dtype=torch.float32,
        device=loaded.device,
    )
    # Scattered, so that no context happens to be one slice, and around a block of somebody else's rubbish.
    blocks = (1 + torch.randperm(95, generator=torch.Generator().manual_seed(0))).tolist()
    for tensor in (*cache.keys, *cache.values):
        tensor[0] = torch.nan
    decodings = [make_decoding(source, [[wanted[index][0]]]) for index, source in enumerate(sources)]
    for each in decodings:
        each.source_blocks = [blocks.pop() for _ in range(-(-each.source_length // 16))]
        each.rows[0].blocks = [blocks.pop() for _ in range(4)]
    Seq2SeqRunner(loaded.model, cache).encode(decodings)
    decodings.sort(key=lambda each: -each.source_length)
    order = [sources.index(each.source) for each in decodings]
    logits: list[list[torch.Tensor]] = [[] for _ in sources]
    running = list(zip(order, decodings, strict=True))
    while running:
        rows = [each.rows[0] for _, each in running]
        states = loaded.model.decode(
            torch.tensor([row.tokens[-1] for row in rows]),
            torch.tensor([len(row.tokens) - 1 for row in rows]),
            CachedAttention(cache, [each for _, each in running], loaded.model.decoder_attention),
        )
        for (index, each), row in zip(running, loaded.model.logits(states), strict=True):
            logits[index].append(row)
            each.computed += 1
            each.rows[0].tokens.append(wanted[index][min(len(logits[index]), len(wanted[index]) - 1)])
        running = [(index, each) for index, each in running if len(logits[index]) < len(wanted[index])]
    return [torch.stack(rows) for rows in logits]


def test_logits_agree(folder: Path, reference: PreTrainedModel) -> None:
    loaded = load_seq2seq(folder, device=torch.device("cpu"), dtype=torch.float32)
    sources = random_prompts(1, LENGTHS)
    wanted = [[START, *tokens] for tokens in random_prompts(2, (40, 1, 15, 16, 33, 20, 2, 18))]
    found = cached_logits(loaded, sources, wanted)
    for source, tokens, logits in zip(sources, wanted, found, strict=True):
        with torch.inference_mode():
            right = reference(
                input_ids=torch.tensor([source]),
                attention_mask=torch.ones(1, len(source), dtype=torch.int64),
                decoder_input_ids=torch.tensor([tokens]),
            ).logits[0]
        assert logits.shape == (len(tokens), VOCAB_SIZE)
        assert float((logits - right).abs().max() / right.abs().max()) <= 1e-4


async def test_greedy_tokens_agree_alone_and_in_a_crowd(
    folder: Path, reference: PreTrainedModel, start_seq2seq: StartSeq2Seq
) -> None:
    engine = start_seq2seq(folder)
    sources = random_prompts(3, LENGTHS)
    right = [expected(reference, source, 24) for source in sources]
    alone = [await target(engine, source, max_tokens=24) for source in sources[:3]]
    assert [each.tokens for each in alone] == right[:3]
    crowd = await targets(engine, sources, max_tokens=24)
    assert [each.tokens for each in crowd] == right
    assert [each.usage.prompt_tokens for each in crowd] == list(LENGTHS)


async def test_greedy_tokens_agree_when_others_join_late_and_leave_early(
    folder: Path, reference: PreTrainedModel, start_seq2seq: StartSeq2Seq
) -> None:
    # Few blocks, so that those of requests that left are used again.
    engine = start_seq2seq(folder, max_running=5, step_tokens=50, kv_cache_bytes=28 * 16 * 2 * 2 * 48 * 4)
    sources = random_prompts(4, (40, 3, 17, 60, 9, 33, 16, 2))
    generations, begun = [], []
    for index, source in enumerate(sources):
        generations.append(translate(engine, source, max_tokens=20 + index))
        if index % 3 == 1:
            generations[index].cancel()
        # The next joins when this one is under way, whoever else is.
        begun.append(await anext(generations[index]))
    answers = await asyncio.gather(*map(collect, generations))
    for index, (source, answer) in enumerate(zip(sources, answers, strict=True)):
        whole = Answer((begun[index], *answer.chunks))
        right = expected(reference, source, 20 + index)
        if index % 3 == 1:
            assert whole.finish_reason == "cancelled"
            assert whole.tokens == right[: len(whole.tokens)]
        else:
            assert whole.tokens == right


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
async def test_half_precision_runs(folder: Path, start_seq2seq: StartSeq2Seq, dtype: str) -> None:
    engine = start_seq2seq(folder, dtype=dtype)
    (source,) = random_prompts(5, (20,))
    single = await target(engine, source, max_tokens=6, ignore_eos=True)
    beams = await target(engine, source, max_tokens=6, ignore_eos=True, num_beams=3)
    assert (len(single.tokens), len(beams.tokens)) == (6, 6)
