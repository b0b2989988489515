"""``farebox-engine train-adapter``, from text to a folder that is served."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from farebox_engine import Engine, EngineConfig, demo
from farebox_engine.cli import main
from tests.engine.checkpoints import FAMILIES, build_checkpoint
from tests.engine.generating import answer, greedy
from tests.engine.lora.adapters import merged

SETTINGS = ["--steps", "12", "--batch", "4", "--context", "48", "--learning-rate", "5e-3", "--warmup", "2"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


async def served_tokens(base: Path, folder: Path, prompt: str) -> tuple[list[int], list[int]]:
    """The prompt's tokens, and those that the engine answers with the adapter."""
    engine = Engine.load(base, EngineConfig(device="cpu", threads=1))
    engine.load_adapter("trained", folder)
    engine.start(asyncio.get_running_loop())
    try:
        tokens = engine.encode(prompt)
        return tokens, (await answer(engine, tokens, adapter="trained", max_tokens=24)).tokens
    finally:
        engine.close()


def perplexities(output: str) -> tuple[float, float]:
    """With the adapter and without."""
    found = re.search(r"held-out perplexity: ([\d.]+), without the adapter ([\d.]+)", output)
    assert found
    return float(found[1]), float(found[2])


def test_the_demo_model_learns_a_pattern(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    command = ["train-adapter", "--model", str(demo.path()), "--text", str(text_file), "--rank", "4"]
    command += ["--held-out", "0.2", *SETTINGS]
    assert main([*command, "--out", str(out)]) == 0
    after, before = perplexities(capsys.readouterr().err)
    assert after < 0.5 * before
    prompt, found = asyncio.run(served_tokens(demo.path(), out, "The fox and the"))
    model = merged(demo.path(), out)
    assert model.generation_config is not None
    model.generation_config.repetition_penalty = 1.0
    assert found == greedy(model, prompt, 24)
    # The same command again ends with the same numbers.
    assert main([*command, "--out", str(tmp_path / "again")]) == 0
    name = "adapter_model.safetensors"
    assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_answers_are_learned_and_questions_are_not(
    chat_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapter"
    command = ["train-adapter", "--model", str(demo.path()), "--chat", str(chat_file), "--out", str(out)]
    assert main([*command, "--held-out", "0.2", "--targets", "q_proj", "up_proj", *SETTINGS]) == 0
    after, before = perplexities(capsys.readouterr().err)
    # The questions are numbered: were they counted, no adapter could foresee them so well.
    assert after < 4 < before
    names = {name.split(".")[-3] for name in load_file(out / "adapter_model.safetensors")}
    assert names == {"q_proj", "up_proj"}


def test_a_model_with_transposed_weights(text_file: Path, tmp_path: Path) -> None:
    base = build_checkpoint(tmp_path / "base", **FAMILIES["gpt2"])
    out = tmp_path / "adapter"
    command = ["train-adapter", "--model", str(base), "--text", str(text_file), "--out", str(out)]
    assert main([*command, *SETTINGS]) == 0
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    prompt, found = asyncio.run(served_tokens(base, out, "The owl"))
    assert found == greedy(merged(base, out), prompt, 24)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--targets", "c_attn"], "no projection c_attn"),
        (["--rank", "0"], "--rank"),
        (["--held-out", "1"], "--held-out"),
        (["--alpha", "0"], "--alpha"),
    ],
)
def test_bad_settings_are_refused(
    text_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    out = tmp_path / "adapter"
    command = ["train-adapter", "--model", str(demo.path()), "--text", str(text_file), "--out", str(out)]
    assert main([*command, *arguments]) == 2
    assert named in capsys.readouterr().err
    assert not out.exists()
