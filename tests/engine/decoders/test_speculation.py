"""Speculation: the same answers in fewer steps, and no trace of what was guessed wrongly."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from farebox_engine import (
    Engine,
    EngineConfig,
    GenerationRequest,
    GrammarSpec,
    LoadError,
    SamplingParams,
)
from tests.engine.checkpoints import FAMILIES, build_checkpoint, build_parrot
from tests.engine.conftest import StartEngine
from tests.engine.generating import Answer, answer, answers, collect, random_prompts
from tests.engine.saboteur import BAD, POISON, sabotaged_engine
from tests.engine.started import started

PROMPTS = random_prompts(60, (4, 9, 17, 30))
# Two circles of the parrot, so that there is something to copy from the first token on.
CIRCLES = [*range(10, 15), *range(10, 15), 10, 11]
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.6},
    "filtered": {"temperature": 0.9, "top_p": 0.9, "top_k": 40, "min_p": 0.01},
    "logprobs": {"temperature": 0.6, "logprobs": 3},
    "bias": {"temperature": 0.6, "logit_bias": {12: 3.0, 160: -4.0}},
    "stop token": {"temperature": 0.6, "stop_token_ids": (14, 163, 272)},
    "minimum": {"temperature": 0.6, "stop_token_ids": (14, 163, 272), "min_tokens": 23},
    "bad words": {"temperature": 0.6, "bad_words": ((13, 14), (161, 162, 163), (272,))},
    "limit": {"temperature": 0.6, "max_tokens": 7},
    "prompt": {"temperature": 0.6, "prompt_logprobs": 1, "echo": True},
    "one token": {"temperature": 0.6, "max_tokens": 1},
}


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_parrot(tmp_path_factory.mktemp("parrot") / "llama")


@pytest.fixture
async def sabotaged(parrot: Path) -> AsyncIterator[Callable[..., Engine]]:
    """Starts guessing engines with a parrot that misbehaves; in the end none may hold a block."""
    with started(partial(sabotaged_engine, parrot, speculative_tokens=5)) as start:
        yield start


def told(found: Answer) -> tuple[object, ...]:
    """All that a client is told, but for the times."""
    usage = found.usage
    logprobs = [each for chunk in found.chunks for each in chunk.logprobs or ()]
    return (
        found.tokens,
        found.text,
        found.finish_reason,
        (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
        [each.token_id for each in logprobs],
        [pytest.approx(each.logprob, abs=1e-4) for each in logprobs],
        [[other.token_id for other in each.top] for each in logprobs],
        [chunk.prompt.text for chunk in found.chunks if chunk.prompt],
    )


@pytest.mark.parametrize("way", WAYS)
async def test_answers_are_the_same_in_fewer_steps(start_engine: StartEngine, parrot: Path, way: str) -> None:
    plain, guessing = (start_engine(parrot, speculative_tokens=drafts) for drafts in (0, 5))
    for seed in range(4):
        params = {"max_tokens": 40, "seed": seed} | WAYS[way]
        expected = await answers(plain, [*PROMPTS, CIRCLES], **params)
        found = await answers(guessing, [*PROMPTS, CIRCLES], **params)
        assert list(map(told, found)) == list(map(told, expected))
    without, stats = plain.stats(), guessing.stats()
    assert without.draft_tokens == 0
    assert stats.completion_tokens == without.completion_tokens
    if "max_tokens" not in WAYS[way]:
        assert stats.steps < without.steps
    if way != "one token":
        assert stats.accepted_draft_tokens > 0


async def test_stop_strings_end_within_what_was_guessed(start_engine: StartEngine, parrot: Path) -> None:
    plain, guessing = (start_engine(parrot, speculative_tokens=drafts) for drafts in (0, 5))
    full = await answer(plain, CIRCLES, max_tokens=40)
    unneeded = 0
    for start in range(8, 20):
        stop = (full.text[start : start + 2],)
        expected = await answer(plain, CIRCLES, max_tokens=40, stop=stop, salt=b"%d" % start)
        found = await answer(guessing, CIRCLES, max_tokens=40, stop=stop, salt=b"%d" % start)
        assert told(found) == told(expected)
        assert found.finish_reason == "stop"
        unneeded += found.usage.draft_tokens - found.usage.accepted_draft_tokens
    # In a circle each guess is right: what is refused are those beyond the stop.
    assert guessing.stats().discarded_tokens == unneeded > 0


@pytest.mark.parametrize(
    "params", [{"repetition_penalty": 1.1}, {"presence_penalty": 0.5}, {"frequency_penalty": -0.5}]
)
async def test_what_depends_on_all_tokens_before_is_not_guessed(
    start_engine: StartEngine, parrot: Path, params: dict[str, Any]
) -> None:
    plain, guessing = (start_engine(parrot, speculative_tokens=drafts) for drafts in (0, 5))
    expected = await answer(plain, CIRCLES, max_tokens=40, seed=1, temperature=0.6, **params)
    found = await answer(guessing, CIRCLES, max_tokens=40, seed=1, temperature=0.6, **params)
    assert told(found) == told(expected)
    assert found.usage.draft_tokens == 0


async def test_a_grammar_is_obeyed_beside_guesses(start_engine: StartEngine, parrot: Path) -> None:
    engine = start_engine(parrot, speculative_tokens=5)
    spec = GrammarSpec("regex", "(na ){20}end")
    request = GenerationRequest(
        "request", CIRCLES, SamplingParams(max_tokens=90, seed=1), grammar=engine.compile_grammar(spec)
    )
    bound = engine.generate(request)
    free = await answer(engine, CIRCLES, max_tokens=40)
    found = await collect(bound)
    assert (found.text, found.finish_reason) == ("na " * 20 + "end", "stop")
    assert found.usage.draft_tokens == 0
    assert free.usage.accepted_draft_tokens > 0


@pytest.mark.parametrize("family", ["mistral", "qwen3", "mixtral"])
async def test_windows_and_experts_verify_guesses_too(
    start_engine: StartEngine, tmp_path: Path, family: str
) -> None:
    path = build_parrot(tmp_path / family, **FAMILIES[family])
    plain, guessing = (start_engine(path, speculative_tokens=drafts) for drafts in (0, 5))
    for seed in range(3):
        params: dict[str, Any] = {"max_tokens": 50, "seed": seed, "temperature": 0.5, "logprobs": 2}
        expected = await answers(plain, [*PROMPTS, CIRCLES], **params)
        found = await answers(guessing, [*PROMPTS, CIRCLES], **params)
        assert list(map(told, found)) == list(map(told, expected))
    assert 0 < guessing.stats().accepted_draft_tokens < guessing.stats().draft_tokens


async def test_keys_that_depend_on_the_length_are_not_guessed_with(
    start_engine: StartEngine, tmp_path: Path
) -> None:
    path = build_checkpoint(tmp_path / "phi3", **FAMILIES["phi3-longrope"])
    found = await answer(start_engine(path, speculative_tokens=5), CIRCLES * 2, max_tokens=40)
    assert found.usage.draft_tokens == 0


async def test_a_full_cache_holds_no_guesses(start_engine: StartEngine, parrot: Path) -> None:
    """Preempted, resumed and sharing prefixes, with blocks so small that guesses reach into new ones."""
    bytes_per_token = 2 * 3 * 2 * 16 * 4
    settings: dict[str, Any] = {"block_size": 4, "context_length": 80, "max_running": 8, "step_tokens": 24}
    plain, guessing = (
        start_engine(parrot, speculative_tokens=drafts, kv_cache_bytes=100 * bytes_per_token, **settings)
        for drafts in (0, 5)
    )
    prompts = [CIRCLES + PROMPTS[0][: index % 3] for index in range(12)]
    for seed in range(4):
        expected = await answers(plain, prompts, max_tokens=50, seed=seed, temperature=0.5)
        found = await answers(guessing, prompts, max_tokens=50, seed=seed, temperature=0.5)
        assert [each.tokens for each in found] == [each.tokens for each in expected]
    assert guessing.stats().preemptions > 0
    assert 0 < guessing.stats().accepted_draft_tokens < guessing.stats().draft_tokens


async def test_what_was_guessed_rightly_serves_the_next_prompt(
    start_engine: StartEngine, parrot: Path
) -> None:
    plain, guessing = (start_engine(parrot, speculative_tokens=drafts, block_size=4) for drafts in (0, 5))
    params: dict[str, Any] = {"temperature": 0.7, "logprobs": 0}
    for seed in range(6):
        first = await answer(guessing, CIRCLES, max_tokens=40, seed=seed, **params)
        prompt = CIRCLES + first.tokens + [7]
        found = await answer(guessing, prompt, max_tokens=20, seed=seed, **params)
        expected = await answer(plain, prompt, max_tokens=20, seed=seed, **params, salt=b"%d" % seed)
        assert found.usage.cached_tokens == (len(prompt) - 2) // 4 * 4
        assert told(found)[4:6] == told(expected)[4:6]
    assert guessing.stats().draft_tokens > guessing.stats().accepted_draft_tokens


async def test_a_failure_over_a_guess_is_not_the_requests(
    sabotaged: Callable[..., Engine], start_engine: StartEngine, parrot: Path
) -> None:
    calls: list[int] = []

    def fail_but_for_the_prompt() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("a kernel that fails")

    prompt = [11, 12, 13, BAD, 40, 41, 42, 11, 12]
    expected = await answer(start_engine(parrot, speculative_tokens=0), prompt, max_tokens=30)
    assert BAD not in expected.tokens
    engine = sabotaged(fail_but_for_the_prompt)
    found = await answer(engine, prompt, max_tokens=30)
    assert (found.tokens, found.finish_reason) == (expected.tokens, "length")
    assert engine.stats().failed_steps > 0


async def test_a_guess_that_gives_no_number_leaves_no_trace(
    sabotaged: Callable[..., Engine], start_engine: StartEngine, parrot: Path
) -> None:
    prompt = [11, 12, 13, POISON, 40, 41, 42, 11, 12]
    expected = await answer(start_engine(parrot, speculative_tokens=0), prompt, max_tokens=30)
    assert POISON not in expected.tokens
    engine = sabotaged()
    found = await answer(engine, prompt, max_tokens=30)
    stats = engine.stats()
    assert (found.tokens, found.finish_reason) == (expected.tokens, "length")
    # It was computed again, without guesses from then on.
    assert 0 < found.usage.draft_tokens <= 5
    assert found.usage.accepted_draft_tokens == 0
    assert found.usage.device_seconds + stats.operator_seconds == pytest.approx(stats.busy_seconds)


async def test_guesses_in_vain_cost_the_operator(start_engine: StartEngine, parrot: Path) -> None:
    engine = start_engine(parrot, speculative_tokens=5)
    found = await answers(engine, [*PROMPTS, CIRCLES], max_tokens=60, temperature=0.9, seed=3)
    stats = engine.stats()
    charged = sum(each.usage.device_seconds for each in found)
    drafts = sum(each.usage.draft_tokens for each in found)
    accepted = sum(each.usage.accepted_draft_tokens for each in found)
    assert (stats.draft_tokens, stats.accepted_draft_tokens) == (drafts, accepted)
    assert stats.discarded_tokens == drafts - accepted > 0
    assert accepted > 0
    assert stats.operator_seconds > 0
    assert charged + stats.operator_seconds == pytest.approx(stats.busy_seconds)


def test_a_negative_number_of_guesses_is_refused() -> None:
    with pytest.raises(LoadError, match="speculative_tokens"):
        EngineConfig(speculative_tokens=-1)
    assert EngineConfig(speculative_tokens=3).drafts(torch.device("cpu")) == 3
