"""The benchmarks that compare the engine with itself or with other libraries."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from farebox_engine import EngineConfig
from farebox_engine.bench import __main__ as bench
from farebox_engine.bench.decoding.contender_process import computable_systems
from farebox_engine.bench.decoding.shapes import SHAPES
from farebox_engine.bench.encoders import DifferentVectorsError, check, texts
from farebox_engine.bench.parrot import build_parrot
from farebox_engine.bench.speculation import Case, compare

TINY = SHAPES["tiny"] | {"tie_word_embeddings": False}


def test_a_parrots_text_is_drafted_and_comes_out_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case(
        "parrot",
        load=lambda: build_parrot(cycle=6, clarity=0.5, shape=TINY),
        prompts=[[*range(60, 66), *range(60, 63)]],
        temperature=0.0,
        tokens=24,
    )
    asyncio.run(compare(case, settings=[0, 4], batches=[1], rounds=1, threads=1))
    plain, drafting = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    ]
    assert plain[3:6] == ["24", "0", "0"]
    assert int(drafting[3]) < 12
    assert int(drafting[5]) >= 12
    assert drafting[-1] == "yes"


def test_contenders_whose_vectors_differ_are_not_compared() -> None:
    right, wrong = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1]
    check({"farebox": lambda: right, "other": lambda: right})
    with pytest.raises(DifferentVectorsError, match="other differ: cosine 0"):
        check({"farebox": lambda: right, "other": lambda: wrong})


def test_the_texts_are_of_mixed_lengths_and_always_the_same() -> None:
    lengths = [len(text.split()) for text in texts(200)]
    assert texts(200) == texts(200)
    assert min(lengths) >= 3
    assert max(lengths) <= 200
    assert sorted(lengths)[100] in range(12, 30)


def test_a_folder_without_a_translator_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert bench.main(["translation", str(tmp_path)]) == 2
    assert "held-out.tsv" in capsys.readouterr().err


def test_the_default_systems_are_those_the_device_can_compute() -> None:
    systems = computable_systems(EngineConfig(device="cpu").torch_device())
    assert "engine-int8" in systems
    assert "engine-fp8" not in systems
