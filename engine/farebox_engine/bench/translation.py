"""How well and how fast a translator translates.

python -m farebox_engine.bench translation MODEL [--threads 1]

MODEL is a folder that `farebox-engine train-translator` wrote; it holds the pairs held out.
All sentences are given to the engine at once; transformers gets them in padded batches of 64, as they come.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, MarianMTModel

from farebox_engine.bench.chrf import chrf
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.errors import EngineError
from farebox_engine.params import GenerationRequest, SamplingParams
from farebox_engine.training.arguments import told
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.translation.pairs import read_pairs


async def translate(engine: Engine, text: str, num_beams: int) -> str:
    params = SamplingParams(temperature=0.0, num_beams=num_beams)
    request = GenerationRequest(text[:20], engine.encode(text), params)
    return "".join([chunk.text async for chunk in engine.generate(request)])


@torch.inference_mode()
def by_transformers(folder: Path, texts: list[str], num_beams: int) -> tuple[list[str], float]:
    """Its translations, and sentences per second."""
    model = MarianMTModel.from_pretrained(folder)
    model.train(False)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    generate: Any = model.generate
    found: list[str] = []
    started = time.perf_counter()
    for start in range(0, len(texts), 64):
        batch = tokenizer(texts[start : start + 64], padding=True, return_tensors="pt")
        output = generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=num_beams
        )
        found += tokenizer.batch_decode(output, skip_special_tokens=True)
    return found, len(texts) / (time.perf_counter() - started)


async def measure(model: Path, threads: int) -> None:
    references: dict[str, list[str]] = {}
    for pair in read_pairs(model / "held-out.tsv"):
        references.setdefault(pair.source, []).append(pair.target)
    torch.set_num_threads(threads)
    engine = Engine.load(model, EngineConfig(device="cpu", threads=threads))
    engine.start(asyncio.get_running_loop())
    sys.stdout.write(
        "| beams | chrF2 | sentences/s | transformers | same translation |\n" + "| ---: " * 5 + "|\n"
    )
    for num_beams in (1, 4):
        started = time.perf_counter()
        found = await asyncio.gather(*(translate(engine, text, num_beams) for text in references))
        rate = len(found) / (time.perf_counter() - started)
        theirs, their_rate = by_transformers(model, list(references), num_beams)
        same = sum(a == b for a, b in zip(found, theirs, strict=True))
        score = chrf(found, list(references.values()))
        sys.stdout.write(
            f"| {num_beams} | {score:.1f} | {rate:.0f} | {their_rate:.0f} | {same} of {len(found)} |\n"
        )
    engine.close()
    copied = chrf(list(references), list(references.values()))
    sys.stdout.write(f"\n{len(references)} sentences. The sources themselves score {copied:.1f}.\n\n")
    for source, translation in list(zip(references, found, strict=True))[:: max(1, len(found) // 8)]:
        sys.stdout.write(f"- {source} → {translation} (reference: {references[source][0]})\n")


def main(arguments: Sequence[str]) -> int:
    """Print a table and some translations; return 0, or 2 if the model cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench translation",
        description=told(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(measure(options.model, options.threads))
    except (EngineError, TrainingError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
