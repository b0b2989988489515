"""What a request may demand of its completion, and what it may ask about its prompt."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from farebox_engine import Chunk, PromptDetails, RequestError, SamplingParams
from tests.engine.checkpoints import build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import Answer, answer, answers, begin, collect, greedy, random_prompts
from tests.engine.saboteur import BAD, Hang, sabotaged_engine

(PROMPT,) = random_prompts(50, (45,))


def details(found: Answer) -> PromptDetails:
    """What came about the prompt, which comes once and before any token."""
    (chunk,) = [chunk for chunk in found.chunks if chunk.prompt is not None]
    assert chunk is found.chunks[0]
    assert chunk.prompt is not None
    return chunk.prompt


@pytest.fixture
def tokens(reference: LlamaForCausalLM) -> list[int]:
    return greedy(reference, PROMPT, 24)


async def test_no_end_token_comes_before_min_tokens(
    start_engine: StartEngine, tmp_path: Path, tokens: list[int]
) -> None:
    folder = build_checkpoint(tmp_path / "eos")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": tokens[2]}))
    engine = start_engine(folder)
    # Loved above all else: it comes as soon as it may.
    wish: dict[str, Any] = {"ignore_eos": False, "logit_bias": {tokens[2]: 100.0}, "max_tokens": 20}
    soon = await answer(engine, PROMPT, **wish)
    late = await answer(engine, PROMPT, min_tokens=9, **wish)
    assert (soon.tokens, soon.finish_reason) == ([tokens[2]], "stop")
    assert (len(late.tokens), late.tokens[-1], late.finish_reason) == (10, tokens[2], "stop")
    assert late.tokens[:2] == tokens[:2]
    assert tokens[2] not in late.tokens[:9]


async def test_no_stop_token_and_no_stop_string_comes_before_min_tokens(
    start_engine: StartEngine, tokens: list[int]
) -> None:
    engine = start_engine()
    banned = await answer(engine, PROMPT, min_tokens=12, stop_token_ids=(tokens[3],), max_tokens=12)
    assert len(banned.tokens) == 12
    assert tokens[3] not in banned.tokens
    whole = await answer(engine, PROMPT, max_tokens=24)
    stop = whole.text[2:4]
    assert len((await answer(engine, PROMPT, stop=(stop,), max_tokens=24)).tokens) < 12
    patient = await answer(engine, PROMPT, stop=(stop,), min_tokens=12, max_tokens=24)
    assert len(patient.tokens) >= 12
    assert patient.text.startswith(whole.text[:8])


async def test_bad_words_do_not_appear_but_their_parts_may(
    start_engine: StartEngine, tokens: list[int]
) -> None:
    engine = start_engine()
    found = await answer(engine, PROMPT, max_tokens=24, bad_words=((tokens[3], tokens[4]), (tokens[9],)))
    assert found.tokens[:4] == tokens[:4]
    assert (tokens[3], tokens[4]) not in list(zip(found.tokens, found.tokens[1:], strict=False))
    assert tokens[9] not in found.tokens
    # Nor where sampling would choose them; a word that begins in the prompt is none.
    word = (PROMPT[-1], tokens[0])
    sampled = await answer(engine, PROMPT, bad_words=(word,))
    assert sampled.tokens[0] == tokens[0]
    hot = await answer(engine, PROMPT, temperature=50.0, seed=1, bad_words=tuple((t,) for t in range(200)))
    assert min(hot.tokens) >= 200


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"min_tokens": 17}, "min_tokens"),
        ({"bad_words": ((),)}, "bad_words"),
        ({"bad_words": ((1,) * 65,)}, "bad_words"),
        ({"bad_words": ((1,),) * 257}, "bad_words"),
        ({"bad_words": ((400,),)}, "bad_words"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_demands_out_of_range_are_refused_by_name(
    start_engine: StartEngine, params: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as failure:
        begin(start_engine(), PROMPT, **params)
    assert failure.value.param == param


# 8 blocks for two sequences of 71 tokens: one is preempted and computed again.
@pytest.mark.parametrize("settings", [{}, {"step_tokens": 7}, {"kv_cache_bytes": 8 * 16 * 768}])
async def test_the_logprobs_of_a_prompt_agree_with_transformers(
    start_engine: StartEngine, reference: LlamaForCausalLM, settings: dict[str, Any]
) -> None:
    engine = start_engine(context_length=128, **settings)
    prompts = [PROMPT, PROMPT[::-1], PROMPT]
    for prompt, found in zip(
        prompts, await answers(engine, prompts, prompt_logprobs=3, max_tokens=26), strict=True
    ):
        entries = details(found).logprobs
        assert entries is not None
        with torch.inference_mode():
            rows = reference(torch.tensor([prompt])).logits[0].log_softmax(-1)
        assert entries[0] is None
        assert len(entries) == len(prompt)
        for token, entry, row in zip(prompt[1:], entries[1:], rows, strict=False):
            assert entry is not None
            assert entry.token_id == token
            assert entry.logprob == pytest.approx(float(row[token]), abs=1e-3)
            assert [each.token_id for each in entry.top] == row.topk(3).indices.tolist()
        assert found.tokens == greedy(reference, prompt, 26)
    if "kv_cache_bytes" in settings:
        assert engine.stats().preemptions > 0


async def test_a_prompt_with_logprobs_takes_nothing_from_the_cache_but_leaves_it_to_others(
    start_engine: StartEngine,
) -> None:
    engine = start_engine()
    await answer(engine, PROMPT)
    scored = await answer(engine, PROMPT, prompt_logprobs=0)
    assert scored.usage.cached_tokens == 0
    assert (await answer(engine, PROMPT)).usage.cached_tokens == 32


async def test_echo_gives_the_prompts_text(start_engine: StartEngine) -> None:
    engine = start_engine()
    prompt = engine.encode("Der Zug fährt über die Brücke 渡轮")
    found = await answer(engine, prompt, echo=True)
    assert details(found) == PromptDetails(text="Der Zug fährt über die Brücke 渡轮")
    assert found.tokens == (await answer(engine, prompt)).tokens


async def test_a_prompt_can_be_scored_without_a_completion(start_engine: StartEngine) -> None:
    engine = start_engine()
    for prompt in (PROMPT, [1] * 256, [7]):
        found = await answer(engine, prompt, echo=True, prompt_logprobs=0, max_tokens=0)
        assert (found.tokens, found.text, found.finish_reason) == ([], "", "length")
        assert found.usage.completion_tokens == 0
        logprobs = details(found).logprobs
        assert logprobs is not None
        assert len(logprobs) == len(prompt)


async def test_nothing_about_the_prompt_comes_unasked(start_engine: StartEngine) -> None:
    found = await answer(start_engine(), PROMPT)
    assert all(chunk.prompt is None for chunk in found.chunks)
    assert Chunk("", ()).prompt is None
    assert not SamplingParams().describes_prompt


async def test_choices_of_one_request_compute_their_prompt_once(
    checkpoint: Path, reference: LlamaForCausalLM
) -> None:
    hang = Hang()
    engine = sabotaged_engine(checkpoint, hang)
    engine.start(asyncio.get_running_loop())
    first = begin(engine, [BAD], max_tokens=1)
    # While the engine is busy they all arrive, so that one step finds them together.
    await asyncio.to_thread(hang.entered.wait)
    choices = [begin(engine, PROMPT) for _ in range(4)]
    hang.release()
    found = [await collect(choice) for choice in (first, *choices)][1:]
    engine.close()
    assert engine.stats().cached_tokens == 3 * 32
    assert {each.usage.cached_tokens for each in found} == {0}, "none of them had been served to anybody"
    assert all(each.tokens == greedy(reference, PROMPT) for each in found)
