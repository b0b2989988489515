"""Decoding with and without drafts, in one run.

python -m tests.bench.speculation [--drafts 0 2 4 8] [--batches 1 4 16] [--rounds 3] [--threads 2]

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
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from farebox_engine import Engine, EngineConfig, EngineStats
from tests.engine.checkpoints import build_parrot
from tests.engine.generating import answers

PASSAGE = "The ferry leaves the harbour at nine and comes back before the lamps are lit. "
CHATS = ["Copy this text: " + PASSAGE, "List the numbers from one to ten, twice.", "Tell me a story."]
# The shape of SmolLM2-135M.
SHAPE = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 512,
    "initializer_range": 0.02,
}


@dataclass(frozen=True)
class Case:
    """Something to generate: `temperature` 0 is greedy."""

    name: str
    model: Path
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
    found = await answers(
        engine, prompts, temperature=case.temperature, seed=1, max_tokens=case.tokens, salt=b""
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    after: EngineStats = engine.stats()
    return Round(
        seconds,
        cpu_seconds,
        after.steps - before.steps,
        after.draft_tokens - before.draft_tokens,
        after.accepted_draft_tokens - before.accepted_draft_tokens,
        [each.tokens for each in found],
    )


async def compare(
    case: Case, settings: Sequence[int], batches: Sequence[int], rounds: int, threads: int
) -> None:
    engines = {}
    for drafts in settings:
        config = EngineConfig(device="cpu", threads=threads, speculative_tokens=drafts)
        engines[drafts] = Engine.load(case.model, config)
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


def cases(folder: Path) -> list[Case]:
    demo = Path(str(files("farebox_engine") / "demo"))
    tokenizer = Engine.load(demo, EngineConfig(device="cpu"))
    chats = [tokenizer.render_chat([{"role": "user", "content": text}]) for text in CHATS]
    parrot = build_parrot(folder, cycle=24, clarity=0.033, **SHAPE)
    circles = [list(range(start, start + 24)) for start in range(240, 1000, 24)]
    prompts = [circle + circle[:3] for circle in circles]
    return [
        Case("demo, repeating prose", demo, [tokenizer.encode(PASSAGE * 3)], 0.0, 96),
        Case("demo, chat", demo, chats, 0.0, 96),
        Case("demo, chat, sampled", demo, chats, 0.8, 96),
        Case("135M, T=0", parrot, prompts, 0.0, 64),
        Case("135M, T=1.1", parrot, prompts, 1.1, 64),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--drafts", type=int, nargs="+", default=[0, 2, 4, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print_row(
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
    print_row("---", *["---:"] * 8, "---")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder) / "parrot"):
            asyncio.run(compare(case, options.drafts, options.batches, options.rounds, options.threads))


if __name__ == "__main__":
    main()
