"""``farebox-engine train-classifier``, from texts with labels to a folder that is served."""

import asyncio
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from farebox_engine import EngineConfig
from farebox_engine.cli import main
from farebox_engine.encoders import Classifications, EncoderEngine
from tests.engine.encoders.checkpoints import build_encoder

SETTINGS = [
    "--steps",
    "60",
    "--batch",
    "16",
    "--learning-rate",
    "2e-3",
    "--warmup",
    "5",
    "--max-length",
    "32",
]
NEW = ["--hidden-size", "32", "--layers", "1", "--heads", "2", "--vocab-size", "200"]
QUESTIONS = ["the ferry sails to the island", "the ledger and the invoice agree", "sails sails price"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Sentences of two kinds that share half of their words."""
    dice = random.Random(3)
    shared = ["the", "and", "to", "a", "of", "it"]
    own = {"sea": ["ferry", "harbour", "sails", "island"], "trade": ["ledger", "invoice", "price", "market"]}
    paths = {}
    for label, words in own.items():
        lines = [
            " ".join([*dice.choices(shared, k=4), *dice.choices(words, k=dice.randint(1, 4))])
            for _ in range(120)
        ]
        paths[label] = tmp_path / f"{label}.txt"
        paths[label].write_text("\n".join(lines) + "\n")
    return paths


def by_label(files: dict[str, Path]) -> list[str]:
    return ["--texts", *[f"{label}={path}" for label, path in files.items()]]


async def classify(folder: Path, texts: list[str]) -> Classifications:
    engine = EncoderEngine.load(folder, EngineConfig(device="cpu", threads=1))
    engine.start(asyncio.get_running_loop())
    try:
        return await engine.classify(texts)
    finally:
        engine.close()


async def test_a_new_encoder_learns_and_is_served_and_loads_elsewhere(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert main(["train-classifier", *by_label(files), "--out", str(out), *NEW, *SETTINGS]) == 0
    assert "held-out accuracy 1.0000" in capsys.readouterr().err
    found = await classify(out, QUESTIONS)
    assert [scores[0].label for scores in found.labels[:2]] == ["sea", "trade"]
    model = BertForSequenceClassification.from_pretrained(out)
    assert model.config.id2label == {0: "sea", 1: "trade"}
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text, scores in zip(QUESTIONS, found.labels, strict=True):
        with torch.inference_mode():
            expected = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
        names = [["sea", "trade"][int(place)] for place in expected.argsort(descending=True)]
        assert [entry.label for entry in scores] == names
        assert [entry.score for entry in scores] == pytest.approx(
            expected.sort(descending=True).values.tolist(), abs=1e-5
        )
    assert "held-out accuracy | 1.0000" in (out / "README.md").read_text()


@pytest.mark.parametrize("family", ["DistilBert", "ModernBert", "XLMRoberta"])
async def test_an_encoder_that_is_there_is_trained_further(
    files: dict[str, Path], tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out = build_encoder(tmp_path / "start", family, initializer_range=0.02), tmp_path / "model"
    table = tmp_path / "table.tsv"
    lines = [f"{label}\t{line}" for label, path in files.items() for line in path.read_text().splitlines()]
    table.write_text("\n".join(lines))
    arguments = ["--data", str(table), "--encoder", str(start), "--out", str(out), *SETTINGS]
    assert main(["train-classifier", *arguments]) == 0
    assert "held-out accuracy 1.0000" in capsys.readouterr().err
    found = await classify(out, QUESTIONS)
    assert [scores[0].label for scores in found.labels[:2]] == ["sea", "trade"]


def test_the_same_seed_gives_the_same_weights(files: dict[str, Path], tmp_path: Path) -> None:
    short = [*by_label(files), *NEW, "--steps", "3", "--batch", "8"]
    for name, seed in [("one", "1"), ("again", "1"), ("other", "2")]:
        assert main(["train-classifier", *short, "--out", str(tmp_path / name), "--seed", seed]) == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again", "other")]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    ("data", "more", "sentence"),
    [
        (None, [], "nothing to train on"),
        ("sea no tab\n", [], "line 1: expected a label, a tab and a text"),
        ("sea\tone\nsea\ttwo\n", [], "at least two labels"),
        ("sea\tone\ntrade\ttwo\n", ["--steps", "0"], "--steps must be at least 1"),
        ("sea\tone\ntrade\ttwo\n", ["--dropout", "1"], "--dropout must lie between 0 and 1"),
        ("sea\tone\ntrade\ttwo\n", ["--encoder", "nowhere"], "nowhere has no config.json"),
        ("sea\tone\ntrade\ttwo\n", ["--hidden-size", "30"], "multiple of the number of attention heads"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str | None, more: list[str], sentence: str
) -> None:
    given = []
    if data is not None:
        (tmp_path / "data.tsv").write_text(data)
        given = ["--data", str(tmp_path / "data.tsv")]
    assert main(["train-classifier", *given, "--out", str(tmp_path / "model"), *more]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
