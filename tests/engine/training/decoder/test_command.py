"""`farebox-engine train` from the outside: it learns, resumes, and writes what `transformers` loads."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from farebox_engine.cli import main
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.models.llama import LlamaConfig, LlamaForCausalLM
from farebox_engine.models.weights import load_weights

TINY = shlex.split(
    "--hidden-size 32 --intermediate-size 64 --layers 2 --heads 4 --kv-heads 2 --vocab-size 320 "
    "--context 32 --batch 4 --warmup 5 --learning-rate 0.01 --held-out 0.1 --device cpu --dtype float32"
)


def train(*arguments: object) -> int:
    return main(["train", *TINY, *(str(argument) for argument in arguments)])


def losses(checkpoints: Path) -> list[float]:
    lines = (checkpoints / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_learns_a_tiny_corpus_far_below_chance(
    text_file: Path, chat_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert train("--text", text_file, "--chat", chat_file, "--out", out, "--steps", 120) == 0
    curve = losses(out / "checkpoints")
    assert curve[0] == pytest.approx(math.log(320), rel=0.1)
    assert sum(curve[-10:]) / 10 < 0.45 * curve[0]
    said = capsys.readouterr().err
    assert "120/120" in said
    assert "tokens/s" in said
    assert re.search(r"120 steps of 4 x 32 tokens will take about \d+:\d\d \(\S+ s each, measured\)", said)
    assert said.index("will take about") < said.index("120/120")
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"farebox-engine train {' '.join(TINY)}" in card
    assert "| held-out perplexity, text |" in card
    assert "| held-out perplexity, chat |" in card


@pytest.mark.parametrize("command", ["train", "train-adapter", "train-classifier", "train-translator"])
def test_help_names_the_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for option in ("--steps", "--batch", "--warmup", "--learning-rate", "--seed"):
        assert re.search(rf"{option} [A-Z_]+ [^-]*default: [\d.e-]+", told), option
    assert "default: default" not in told


def test_a_killed_run_resumes_to_the_same_loss_curve_and_weights(text_file: Path, tmp_path: Path) -> None:
    options = ("--text", text_file, "--steps", 40, "--save-every", 15, "--dropout", 0.1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(*options, "--out", whole) == 0

    assert train(*options, "--out", cut) == 0
    # As if it had been killed in step 36: the newest whole checkpoint is that of step 30, the log is longer.
    shutil.rmtree(cut / "checkpoints" / "step-00000040")
    log = cut / "checkpoints" / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:36]))
    (cut / "model.safetensors").unlink()
    assert train(*options, "--out", cut, "--resume") == 0

    assert losses(cut / "checkpoints") == losses(whole / "checkpoints")
    expected = load_file(whole / "model.safetensors")
    resumed = load_file(cut / "model.safetensors")
    assert resumed.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(resumed[name], weight), name


def test_resuming_with_other_settings_or_text_is_refused(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert train("--text", text_file, "--out", out, "--steps", 4) == 0
    assert train("--text", text_file, "--out", out, "--steps", 4) == 2
    assert "--resume" in capsys.readouterr().err
    assert train("--text", text_file, "--out", out, "--steps", 8, "--resume") == 2
    assert "another steps" in capsys.readouterr().err
    text_file.write_text(text_file.read_text() + "\nThe end.")
    assert train("--text", text_file, "--out", out, "--steps", 4, "--resume") == 2
    assert "another training text" in capsys.readouterr().err


def test_transformers_loads_the_folder_and_computes_the_same_logits(
    text_file: Path, chat_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    assert train("--text", text_file, "--chat", chat_file, "--out", out, "--steps", 20) == 0
    reference = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    reference.train(False)
    tokenizer = AutoTokenizer.from_pretrained(out)
    messages = [{"role": "user", "content": "Where is the fox?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt == "<|im_start|>user\nWhere is the fox?<|im_end|>\n<|im_start|>assistant\n"
    tokens = tokenizer(prompt, return_tensors="pt").input_ids
    assert tokenizer.decode(tokens[0]) == prompt

    config = LlamaConfig.from_dict(json.loads((out / "config.json").read_text()))
    ours = LlamaForCausalLM(config)
    load_weights(ours, load_file(out / "model.safetensors"))
    with torch.no_grad():
        length = tokens.shape[1]
        logits = ours.logits(ours(tokens[0], torch.arange(length), CausalAttention(length)))
        torch.testing.assert_close(logits, reference(tokens).logits[0], rtol=1e-4, atol=1e-5)
    assert reference.generation_config.eos_token_id == list(config.eos_token_ids)
    assert reference.generation_config.temperature == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no text"),
        (b"  \n\n", "holds no text"),
        (b"caf\xe9", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_text_that_cannot_be_read_gives_one_sentence(
    content: bytes | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    assert train("--text", path, "--out", tmp_path / "model") == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert str(path) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", 'list of "messages"'),
        ('{"messages": []}', 'list of "messages"'),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "role is not one of"),
        ('{"messages": [{"role": "user", "content": ""}]}', "user message without text"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant message"),
    ],
)
def test_chat_that_cannot_be_used_gives_one_sentence(
    line: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    assert train("--chat", path, "--out", tmp_path / "model") == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--vocab-size", 100), "vocabulary of 100 is too small"),
        (("--heads", 5), "must be a multiple of --heads 5"),
        (("--heads", 4, "--kv-heads", 3), "num_key_value_heads (3)"),
        (("--context", 100_000), "needs at least 200001"),
        (("--data-card", "/nowhere/DATA.md"), "cannot be read"),
    ],
)
def test_settings_that_do_not_fit_give_one_sentence(
    options: tuple[object, ...],
    complaint: str,
    text_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--text", text_file, "--out", tmp_path / "model", *options) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_nothing_to_train_on_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--out", tmp_path / "model") == 2
    assert "--text or --chat" in capsys.readouterr().err
