"""`farebox-engine train-translator`: it learns, and writes what the engine and `transformers` load alike."""

import asyncio
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, MarianMTModel

from farebox_engine import EngineConfig
from farebox_engine.cli import main
from farebox_engine.engine import Engine
from farebox_engine.seq2seq.loader import load_seq2seq
from farebox_engine.seq2seq.models.marian import Marian
from farebox_engine.seq2seq.models.model import EncoderDecoder
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.translation.pairs import IGNORED, Pair, PairBatch, hold_out_sources, read_pairs
from farebox_engine.training.translation.teacher_forcing import PaddedSource, TeacherForcing
from farebox_engine.training.translation.trainer import pair_loss
from tests.engine.seq2seq.checkpoints import FAMILIES, build_seq2seq, load_reference
from tests.engine.seq2seq.generating import expected, target

NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}
TINY = [
    *("--hidden-size", "32", "--feed-forward", "64", "--layers", "1", "--heads", "2", "--vocab-size", "300"),
    *("--context", "40", "--batch", "32", "--steps", "150", "--warmup", "20", "--learning-rate", "0.01"),
    *("--dropout", "0", "--held-out", "0.1", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, word by word."""
    rng = random.Random(4)
    lines = []
    for _ in range(400):
        words = rng.choices(list(NUMBERS), k=rng.randint(1, 4))
        lines.append(f"{' '.join(words)}\t{' '.join(NUMBERS[word] for word in words)}\tby hand\n")
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def translator(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translator")
    assert main(["train-translator", "--pairs", str(pairs), "--out", str(folder), *TINY]) == 0
    return folder


async def test_held_out_sentences_are_translated(translator: Path) -> None:
    held_out = read_pairs(translator / "held-out.tsv")
    assert len(held_out) > 10
    engine = Engine.load(translator, EngineConfig(device="cpu", threads=1))
    engine.start(asyncio.get_running_loop())
    right = 0
    for pair in held_out:
        answer = await target(engine, engine.encode(pair.source), num_beams=None, max_tokens=None)
        assert answer.finish_reason == "stop"
        right += answer.text == pair.target
    engine.close()
    assert right / len(held_out) > 0.6


async def test_transformers_loads_the_same_translator(translator: Path) -> None:
    model = MarianMTModel.from_pretrained(translator)
    model.train(False)
    tokenizer = AutoTokenizer.from_pretrained(translator)
    engine = Engine.load(translator, EngineConfig(device="cpu", threads=1))
    engine.start(asyncio.get_running_loop())
    for text in ("one two", "five", "four three two one"):
        source = engine.encode(text)
        assert source == tokenizer(text)["input_ids"]
        answer = await target(engine, source, num_beams=4, max_tokens=30)
        assert answer.tokens == expected(model, source, 30, num_beams=4, bad_words_ids=[[1]])
        assert answer.text == tokenizer.decode(answer.tokens, skip_special_tokens=True)
    engine.close()


def test_the_command_line_translates(translator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", str(translator), "--prompt", "five five"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_forcing_agrees_with_transformers(family: str, tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, family)
    model = load_seq2seq(folder, device=torch.device("cpu"), dtype=torch.float32).model
    batch = _batch()
    with torch.inference_mode():
        right = load_reference(folder)(
            input_ids=batch.sources, attention_mask=batch.real.long(), decoder_input_ids=batch.inputs
        ).logits
        found = _logits(model, batch).view(right.shape)
    counted = batch.labels != IGNORED
    assert float((found - right)[counted].abs().max() / right.abs().max()) <= 1e-4


def test_the_loss_is_the_mean_over_real_tokens(tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, "marian")
    model = load_seq2seq(folder, device=torch.device("cpu"), dtype=torch.float32).model
    assert isinstance(model, Marian)
    batch = _batch()
    with torch.inference_mode():
        right = load_reference(folder)(
            input_ids=batch.sources,
            attention_mask=batch.real.long(),
            decoder_input_ids=batch.inputs,
            labels=batch.labels,
        ).loss
        assert pair_loss(model, batch).item() == pytest.approx(right.item(), rel=1e-5)


def test_a_source_is_learned_or_held_out_never_both() -> None:
    pairs = [Pair(f"source {number % 50}", f"target {number}") for number in range(200)]
    training, held_out = hold_out_sources(pairs, 0.2, seed=3)
    assert sorted(pair.target for pair in (*training, *held_out)) == sorted(pair.target for pair in pairs)
    assert not {pair.source for pair in training} & {pair.source for pair in held_out}
    assert 8 <= len(held_out) <= 80
    assert hold_out_sources(pairs, 0.2, seed=3) == (training, held_out)


@pytest.mark.parametrize("line", ["no tab", "\tno source", "no target\t ", "\t"])
def test_lines_that_are_no_pairs_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text(f"a\tb\n\n{line}\n", encoding="utf-8")
    if not line.strip():
        assert read_pairs(path) == [Pair("a", "b")]
        return
    with pytest.raises(TrainingError, match="line 3"):
        read_pairs(path)


def test_too_little_to_train_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n" * 20, encoding="utf-8")
    assert main(["train-translator", "--pairs", str(path), "--out", str(tmp_path / "out"), *TINY]) == 2
    assert "one batch has 32" in capsys.readouterr().err


def _batch() -> PairBatch:
    """Three pairs, padded."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([[9, 7], [4, 12], [1, 2]])
    sources = torch.randint(5, 400, (3, 9), generator=generator)
    inputs = torch.randint(5, 400, (3, 12), generator=generator)
    labels = torch.randint(5, 400, (3, 12), generator=generator)
    labels[torch.arange(12) >= lengths[:, 1:]] = IGNORED
    return PairBatch(sources, torch.arange(9) < lengths[:, :1], inputs, labels)


def _logits(model: EncoderDecoder, batch: PairBatch) -> torch.Tensor:
    positions = [torch.arange(side.shape[1]).repeat(3) for side in (batch.sources, batch.inputs)]
    source = PaddedSource(batch.real, model.encoder_attention)
    states = model.encode(batch.sources.flatten(), positions[0], source)
    attention = TeacherForcing(12, model.project_source(states), batch.real, model.decoder_attention)
    return model.logits(model.decode(batch.inputs.flatten(), positions[1], attention))
