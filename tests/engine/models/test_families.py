"""Every family: nothing about how a request is computed changes its tokens, and nothing leaks.

That the tokens are right is held against `transformers` here and, by logits, in test_parity.
"""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine import Engine, load_model
from farebox_engine.execution.kv_cache import KVShape
from tests.engine.checkpoints import FAMILIES, build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import (
    Answer,
    answer,
    answers,
    begin,
    collect,
    greedy,
    load_reference,
    random_prompts,
)

# Two of them outgrow the 32 tokens of phi3-longrope while they are answered.
PROMPTS = random_prompts(30, (5, 26, 44, 21, 33))
NEW_TOKENS = 14


class Case:
    """A family's checkpoint, prompts, and what `transformers` answers to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prompts = PROMPTS
        self.reference: PreTrainedModel = load_reference(path)
        self.tokens = [greedy(self.reference, prompt, NEW_TOKENS) for prompt in self.prompts]

    def kv_bytes(self, blocks: int) -> int:
        loaded = load_model(self.path, device=torch.device("cpu"), dtype=torch.float32)
        return blocks * 16 * KVShape.of_decoder(loaded.config).bytes_per_token(torch.float32)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    return Case(build_checkpoint(folder, seed=len(request.param), **FAMILIES[request.param]))


def assert_sums(engine: Engine, prompts: list[list[int]], completions: int, cached: int = 0) -> None:
    stats = engine.stats()
    assert stats.prompt_tokens == sum(map(len, prompts))
    assert stats.completion_tokens == completions
    assert stats.cached_tokens == cached


@pytest.mark.parametrize("step_tokens", [1, 6, 31, 512])
async def test_invariance_to_the_size_of_steps(
    case: Case, start_engine: StartEngine, step_tokens: int
) -> None:
    engine = start_engine(case.path, step_tokens=step_tokens, context_length=96)
    found = await answers(engine, case.prompts, max_tokens=NEW_TOKENS)
    assert [each.tokens for each in found] == case.tokens
    assert_sums(engine, case.prompts, NEW_TOKENS * len(case.prompts))


async def test_invariance_to_the_prefix_cache(case: Case, start_engine: StartEngine) -> None:
    engine = start_engine(case.path, context_length=96)
    prompt, tokens = case.prompts[2], case.tokens[2]
    miss = await answer(engine, prompt, max_tokens=NEW_TOKENS)
    hit = await answer(engine, prompt, max_tokens=NEW_TOKENS)
    assert (miss.usage.cached_tokens, hit.usage.cached_tokens) == (0, 32)
    assert miss.tokens == hit.tokens == tokens
    assert_sums(engine, [prompt, prompt], 2 * NEW_TOKENS, cached=32)


async def test_invariance_to_preemption(case: Case, start_engine: StartEngine) -> None:
    engine = start_engine(case.path, context_length=64, kv_cache_bytes=case.kv_bytes(blocks=7))
    found = await answers(engine, case.prompts, max_tokens=NEW_TOKENS)
    assert engine.stats().preemptions > 0
    assert [each.tokens for each in found] == case.tokens
    assert_sums(engine, case.prompts, NEW_TOKENS * len(case.prompts))


async def test_invariance_to_requests_that_come_and_go(case: Case, start_engine: StartEngine) -> None:
    """One request runs on while others begin and are cancelled, in mid-prefill too."""
    engine = start_engine(
        case.path, context_length=96, step_tokens=9, kv_cache_bytes=case.kv_bytes(blocks=24)
    )
    staying = begin(engine, case.prompts[1], max_tokens=NEW_TOKENS)
    chunks = [await anext(staying)]
    passing = [begin(engine, prompt, salt=b"passing", max_tokens=NEW_TOKENS) for prompt in case.prompts]
    async for chunk in staying:
        chunks.append(chunk)
        if len(chunks) in (3, 6, 9):
            passing[len(chunks) // 3].cancel()
    assert Answer(tuple(chunks)).tokens == case.tokens[1]
    found = await asyncio.gather(*map(collect, passing))
    for each, tokens in zip(found, case.tokens, strict=True):
        assert each.tokens == tokens[: len(each.tokens)]
    assert (found[0].tokens, found[4].tokens) == (case.tokens[0], case.tokens[4])
    completions = sum(each.usage.completion_tokens for each in found) + NEW_TOKENS
    assert engine.stats().completion_tokens == completions


async def test_invariance_to_an_abort_at_every_token(case: Case, start_engine: StartEngine) -> None:
    engine = start_engine(case.path, context_length=96, step_tokens=11)
    completions = 0
    for length in range(NEW_TOKENS):
        aborted = begin(engine, case.prompts[4], max_tokens=NEW_TOKENS)
        other = asyncio.create_task(answer(engine, case.prompts[3], max_tokens=6))
        chunks = []
        if length == 0:
            aborted.cancel()
        async for chunk in aborted:
            chunks.append(chunk)
            if len(chunks) == length:
                aborted.cancel()
        found, unharmed = Answer(tuple(chunks)), await other
        # Half a character is computed and counted, but not delivered until it is whole.
        assert found.usage.completion_tokens >= len(found.tokens)
        assert found.tokens == case.tokens[4][: len(found.tokens)]
        assert unharmed.tokens == case.tokens[3][:6]
        completions += found.usage.completion_tokens + 6
    assert engine.stats().completion_tokens == completions
