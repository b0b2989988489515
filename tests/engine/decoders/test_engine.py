"""The engine's door: streams, ends, cancellation, failures, closing."""

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine import (
    ClosedError,
    Engine,
    EngineConfig,
    GenerationRequest,
    RequestError,
    SamplingParams,
)
from farebox_engine.serving.generation import CHUNK_TOKENS
from tests.engine.checkpoints import build_checkpoint, without_number
from tests.engine.conftest import StartEngine
from tests.engine.generating import answer, answers, begin, collect, greedy, random_prompts

(PROMPT,) = random_prompts(20, (25,))


async def test_text_and_tokens_agree_with_transformers(
    start_engine: StartEngine, reference: PreTrainedModel, checkpoint: Path
) -> None:
    engine = start_engine()
    found = await answer(engine, PROMPT, max_tokens=40)
    assert found.tokens == greedy(reference, PROMPT, 40)
    assert found.finish_reason == "length"
    assert found.usage.prompt_tokens == 25
    assert found.usage.completion_tokens == 40
    assert all(chunk.finish_reason is None and chunk.usage is None for chunk in found.chunks[:-1])


async def test_an_end_token_ends_and_is_counted_but_not_shown(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine()
    tokens = greedy(reference, PROMPT, 12)
    last = next(index for index in range(4, 12) if tokens[index] not in tokens[:index])
    whole = await answer(engine, PROMPT, max_tokens=last)
    ended = await answer(engine, PROMPT, stop_token_ids=(tokens[last],), logprobs=0)
    assert ended.finish_reason == "stop"
    assert ended.tokens == tokens[: last + 1]
    assert ended.usage.completion_tokens == last + 1
    assert ended.text == whole.text
    assert sum(len(chunk.logprobs or ()) for chunk in ended.chunks) == last


async def test_the_models_own_end_token_is_heard(
    folder_with_eos: tuple[Path, int], start_engine: StartEngine
) -> None:
    folder, position = folder_with_eos
    engine = start_engine(folder)
    ended = await answer(engine, PROMPT, ignore_eos=False)
    assert (ended.finish_reason, len(ended.tokens)) == ("stop", position + 1)
    assert (await answer(engine, PROMPT)).finish_reason == "length"


@pytest.fixture
def folder_with_eos(tmp_path: Path, reference: PreTrainedModel) -> tuple[Path, int]:
    """The usual checkpoint with, as end token, one that greedy decoding comes to; and where."""
    tokens = greedy(reference, PROMPT, 16)
    position = next(index for index in range(3, 16) if tokens[index] not in tokens[:index])
    folder = build_checkpoint(tmp_path / "eos")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": tokens[position]}))
    return folder, position


async def test_a_stop_string_across_tokens_ends_and_is_swallowed(start_engine: StartEngine) -> None:
    engine = start_engine()
    whole = await answer(engine, PROMPT, max_tokens=40)
    start = len(whole.text) // 2
    stop = whole.text[start : start + 4]
    stopped = await answer(engine, PROMPT, max_tokens=40, stop=(stop, "never in a random text"))
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert len(stopped.tokens) == stopped.usage.completion_tokens < 40


async def test_seeded_sampling_repeats_in_any_batch(start_engine: StartEngine) -> None:
    engine = start_engine(step_tokens=48)
    settings: dict[str, Any] = {"temperature": 1.5, "top_p": 0.95, "seed": 11, "max_tokens": 24}
    alone = await answer(engine, PROMPT, **settings)
    crowd = [begin(engine, prompt, temperature=2.0) for prompt in random_prompts(21, (9, 30, 44))]
    together = await answer(engine, PROMPT, **settings)
    await asyncio.gather(*map(collect, crowd))
    other = await answer(engine, PROMPT, **settings | {"seed": 12})
    assert alone.tokens == together.tokens != other.tokens


async def test_logprobs_agree_with_transformers(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine()
    found = await answer(engine, PROMPT, max_tokens=10, logprobs=4, repetition_penalty=1.3)
    with torch.inference_mode():
        logits = reference(torch.tensor([[*PROMPT, *found.tokens]])).logits[0, len(PROMPT) - 1 : -1]
    expected = logits.log_softmax(-1)
    entries = [entry for chunk in found.chunks for entry in chunk.logprobs or ()]
    assert [entry.token_id for entry in entries] == found.tokens
    for entry, row in zip(entries, expected, strict=True):
        assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=1e-3)
        assert [each.token_id for each in entry.top] == row.topk(4).indices.tolist()
    spelled = b"".join(entry.bytes for entry in entries).decode(errors="replace")
    assert spelled.rstrip("\ufffd") == found.text.rstrip("\ufffd")


async def test_unread_steps_come_as_one_chunk(start_engine: StartEngine) -> None:
    engine = start_engine()
    quick, slow = begin(engine, PROMPT, max_tokens=30), begin(engine, PROMPT, max_tokens=20)
    assert len((await collect(quick)).tokens) == 30
    late = await collect(slow)
    assert len(late.chunks) == 1
    assert len(late.tokens) == late.chunks[0].delivered_tokens == 20


async def test_a_chunk_of_many_unread_steps_has_a_bound(start_engine: StartEngine) -> None:
    engine = start_engine()
    quick, slow = begin(engine, PROMPT, max_tokens=160), begin(engine, PROMPT, max_tokens=150)
    await collect(quick)
    late = await collect(slow)
    sizes = [chunk.delivered_tokens for chunk in late.chunks]
    assert sum(sizes) == len(late.tokens) == 150
    assert max(sizes) <= CHUNK_TOKENS
    assert len(sizes) <= 4


async def test_cancelling_frees_blocks_and_still_says_what_was_used(start_engine: StartEngine) -> None:
    engine = start_engine()
    generation = begin(engine, PROMPT, max_tokens=200)
    first = await anext(generation)
    generation.cancel()
    rest = await collect(generation)
    assert rest.finish_reason == "cancelled"
    # The last token may hold half a character, and is then not delivered.
    assert 0 <= rest.usage.completion_tokens - first.delivered_tokens - len(rest.tokens) <= 3
    assert rest.usage.completion_tokens < 200
    assert rest.usage.device_seconds > 0
    stats = engine.stats()
    assert stats.free_blocks == stats.total_blocks


async def test_cancelling_before_the_first_step_and_after_the_last(start_engine: StartEngine) -> None:
    engine = start_engine(max_running=1)
    running, queued = begin(engine, PROMPT, max_tokens=100), begin(engine, PROMPT)
    queued.cancel()
    gone = await collect(queued)
    assert (gone.finish_reason, gone.usage.completion_tokens) == ("cancelled", 0)
    assert gone.usage.time_to_first_token_seconds is None
    assert (await collect(running)).finish_reason == "length"
    running.cancel()
    assert (await answer(engine, PROMPT)).finish_reason == "length"


async def test_times_are_told_apart(start_engine: StartEngine) -> None:
    engine = start_engine(max_running=1)
    first, second = await answers(engine, [PROMPT, PROMPT[::-1]], max_tokens=30)
    assert second.usage.queue_seconds > first.usage.queue_seconds
    for usage in (first.usage, second.usage):
        assert usage.time_to_first_token_seconds == pytest.approx(usage.queue_seconds + usage.prefill_seconds)
        assert usage.prefill_seconds > 0
        assert usage.decode_seconds > 0


async def test_not_a_number_ends_one_request_and_leaves_no_trace(
    start_engine: StartEngine, reference: PreTrainedModel, checkpoint: Path, tmp_path: Path
) -> None:
    broken = without_number(tmp_path / "broken", checkpoint, "model.embed_tokens.weight", token=399)
    engine = start_engine(broken, kv_cache_bytes=16 * 16 * 768)
    broken_one, healthy = await answers(engine, [[5, 399, 7] * 5, PROMPT])
    assert (broken_one.finish_reason, healthy.finish_reason) == ("error", "length")
    assert broken_one.chunks[-1].error == "The model's output was not a number."
    assert healthy.tokens == greedy(reference, PROMPT)
    # Every block is used again, those of the broken request too.
    prompts = random_prompts(22, (100, 90))
    found = await answers(engine, prompts)
    assert [each.tokens for each in found] == [greedy(reference, prompt) for prompt in prompts]


@pytest.mark.parametrize(
    ("prompt", "params", "param"),
    [
        ([], {}, "prompt"),
        ([400], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([1] * 256, {}, "prompt"),
        ([1] * 200, {"max_tokens": 57}, "max_tokens"),
        ([1], {"logit_bias": {400: 1.0}}, "logit_bias"),
    ],
)
async def test_requests_that_do_not_fit_are_refused_by_name(
    start_engine: StartEngine, prompt: list[int], params: dict[str, Any], param: str
) -> None:
    engine = start_engine()
    with pytest.raises(RequestError) as failure:
        begin(engine, prompt, **params)
    assert failure.value.param == param
    assert (await answer(engine, [1] * 200, max_tokens=56)).usage.completion_tokens == 56


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 1.01),
        ("top_k", -1),
        ("min_p", 2),
        ("presence_penalty", -2.1),
        ("frequency_penalty", 2.1),
        ("repetition_penalty", 0),
        ("logit_bias", {1: 101}),
        ("logit_bias", dict.fromkeys(range(2000), 1.0)),
        ("stop", ("",)),
        ("stop", ("x",) * 17),
        ("logprobs", 21),
        ("seed", 2**64),
    ],
)
def test_sampling_parameters_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError) as failure:
        SamplingParams(**{name: value})
    assert failure.value.param == name


async def test_closing_ends_running_and_waiting_generations(checkpoint: Path) -> None:
    before = threading.enumerate()
    engine = Engine.load(checkpoint, EngineConfig(threads=1, max_running=1))
    engine.start(asyncio.get_running_loop())
    running, waiting = begin(engine, PROMPT, max_tokens=200), begin(engine, PROMPT)
    await anext(running)
    engine.close()
    for generation in (running, waiting):
        ended = await collect(generation)
        assert (ended.finish_reason, ended.chunks[-1].error) == ("error", "The engine was closed.")
    engine.close()
    with pytest.raises(ClosedError):
        begin(engine, PROMPT)
    assert not [t for t in threading.enumerate() if t not in before and t.name == "farebox-engine"]


async def test_an_engine_that_was_not_started_says_so(checkpoint: Path) -> None:
    engine = Engine.load(checkpoint, EngineConfig(threads=1))
    with pytest.raises(ClosedError, match="start it"):
        engine.generate(GenerationRequest("request", PROMPT))
    engine.close()


def test_a_loop_that_is_gone_does_not_keep_the_thread(checkpoint: Path) -> None:
    before = threading.enumerate()
    engine = Engine.load(checkpoint, EngineConfig(threads=1))

    async def leave() -> None:
        engine.start(asyncio.get_running_loop())
        begin(engine, PROMPT, max_tokens=200)

    asyncio.run(leave())
    engine.close()
    assert not [t for t in threading.enumerate() if t not in before and t.name == "farebox-engine"]


async def test_statistics_count_what_was_done(start_engine: StartEngine) -> None:
    engine = start_engine()
    await answers(engine, random_prompts(23, (40, 8)), max_tokens=5)
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.completion_tokens, stats.cached_tokens) == (48, 10, 0)
    assert 5 <= stats.steps <= 10, "together, or one after the other"
    assert stats.busy_seconds > 0


async def test_what_ends_well_is_cached_when_its_reader_says_so(start_engine: StartEngine) -> None:
    engine = start_engine()
    (prompt,) = random_prompts(29, (40,))
    request = GenerationRequest("told", prompt, SamplingParams(max_tokens=1), tells_when_served=True)
    told = engine.generate(request)
    await collect(told)
    silent = await collect(engine.generate(replace(request, request_id="silent")))
    assert silent.usage.cached_tokens == 0
    told.mark_served()
    assert (await collect(engine.generate(replace(request, request_id="next")))).usage.cached_tokens == 32
