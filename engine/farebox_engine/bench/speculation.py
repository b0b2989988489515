"""Decoding with and without drafts, in one run.

python -m farebox_engine.bench speculation [--drafts 0 2 4 8] [--batches 1 4 16] [--rounds 3] [--threads 2]

Two models on the CPU: the demo model, which really writes text, and a random one of 135 million
parameters that goes round in circles, more or less surely by its temperature. Rounds alternate between
the settings, so that a busy machine is busy for all; figures are medians over rounds, ratios those of
plain decoding's time to the setting's. The tokens of every setting are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from farebox_engine import demo
from farebox_engine.bench.parrot import build_parrot
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.models.loader import LoadedModel, load_model
from farebox_engine.params import GenerationRequest, SamplingParams
from farebox_engine.training.arguments import told

PASSAGE = "The ferry leaves the harbour at nine and comes back before the lamps are lit. "
CHATS = ["Copy this text: " + PASSAGE, "List the numbers from one to ten, twice.", "Tell me a story."]
_COLUMNS = (
    "case",
    "requests",
    "drafts",
    "steps",
    "drafted",
    "accepted",
    "tokens/s",
    "wall ratio",
    "CPU ratio",
    "same tokens",
)


@dataclass(frozen=True)
class Case:
    """Something to generate: `temperature` 0 is greedy."""

    name: str
    load: Callable[[], LoadedModel]
    prompts: list[list[int]]
    temperature: float
    tokens: int


@dataclass(frozen=True)
class Round:
    """What one setting took for a case."""

    seconds: float
    cpu_seconds: float
    steps: int
    drafts: int
    accepted: int
    tokens: list[list[int]]


async def measure(engine: Engine, case: Case, batch: int) -> Round:
    prompts = [case.prompts[index % len(case.prompts)] for index in range(batch)]
    before = engine.stats()
    started, cpu_started = time.perf_counter(), time.process_time()
    tokens = list(await asyncio.gather(*(_generate(engine, case, prompt) for prompt in prompts)))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    after = engine.stats()
    return Round(
        seconds,
        cpu_seconds,
        after.steps - before.steps,
        after.draft_tokens - before.draft_tokens,
        after.accepted_draft_tokens - before.accepted_draft_tokens,
        tokens,
    )


async def _generate(engine: Engine, case: Case, prompt: list[int]) -> list[int]:
    params = SamplingParams(temperature=case.temperature, seed=1, max_tokens=case.tokens, ignore_eos=True)
    request = GenerationRequest("speculation", prompt, params)
    return [token async for chunk in engine.generate(request) for token in chunk.token_ids]


async def compare(
    case: Case, settings: Sequence[int], batches: Sequence[int], rounds: int, threads: int
) -> None:
    engines = {}
    for drafts in settings:
        config = EngineConfig(device="cpu", threads=threads, speculative_tokens=drafts)
        engines[drafts] = Engine(case.load(), config)
        engines[drafts].start(asyncio.get_running_loop())
        await measure(engines[drafts], case, 1)
    for batch in batches:
        found: dict[int, list[Round]] = {drafts: [] for drafts in settings}
        for _ in range(rounds):
            for drafts, engine in engines.items():
                found[drafts].append(await measure(engine, case, batch))
        report(case, batch, found)
    for engine in engines.values():
        engine.close()


def report(case: Case, batch: int, found: dict[int, list[Round]]) -> None:
    baseline = found[min(found)]
    for drafts, measured in found.items():
        last = measured[-1]
        rates = [sum(map(len, each.tokens)) / each.seconds for each in measured]
        pairs = list(zip(baseline, measured, strict=True))
        print_row(
            case.name,
            batch,
            drafts,
            last.steps,
            last.drafts,
            last.accepted,
            f"{statistics.median(rates):.0f}",
            f"{statistics.median(plain.seconds / each.seconds for plain, each in pairs):.2f}",
            f"{statistics.median(plain.cpu_seconds / each.cpu_seconds for plain, each in pairs):.2f}",
            "yes" if last.tokens == baseline[-1].tokens else "no",
        )


def print_row(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(map(str, cells)) + " |\n")
    sys.stdout.flush()


def cases() -> list[Case]:
    load_demo = partial(load_model, demo.path(), device=torch.device("cpu"), dtype=torch.float32)
    tokenizer = load_demo().tokenizer
    chats = [tokenizer.render_chat([{"role": "user", "content": text}]) for text in CHATS]
    load_parrot = partial(build_parrot, cycle=24, clarity=0.031)
    circles = [list(range(start, start + 24)) for start in range(240, 1000, 24)]
    prompts = [circle + circle[:3] for circle in circles]
    return [
        Case("demo, repeating prose", load_demo, [tokenizer.encode(PASSAGE * 3)], 0.0, 96),
        Case("demo, chat", load_demo, chats, 0.0, 96),
        Case("demo, chat, sampled", load_demo, chats, 0.8, 96),
        Case("135M, T=0", load_parrot, prompts, 0.0, 64),
        Case("135M, T=1.1", load_parrot, prompts, 1.1, 64),
    ]


def main(arguments: Sequence[str]) -> int:
    """Print a table, row by row; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench speculation",
        description=told(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--drafts", type=int, nargs="+", default=[0, 2, 4, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    print_row(*_COLUMNS)
    print_row("---", *["---:"] * 8, "---")
    for case in cases():
        asyncio.run(compare(case, options.drafts, options.batches, options.rounds, options.threads))
    return 0
