"""The model in the wheel: small, documented, and able to answer a chat turn."""

from __future__ import annotations

import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from farebox_engine import demo
from farebox_engine.cli import main
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.models.llama import LlamaConfig
from farebox_engine.models.loader import load_model


def ask(question: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["generate", "--chat", "--temperature", "0", "--prompt", question, *options]) == 0
    return capsys.readouterr().out.strip()


def test_weights_fit_the_wheel() -> None:
    weights = list(demo.path().glob("*.safetensors"))
    assert 1_000_000 < sum(path.stat().st_size for path in weights) <= 12_000_000


def test_the_card_says_where_the_model_comes_from() -> None:
    card = (demo.path() / "README.md").read_text(encoding="utf-8")
    for fact in (
        "| steps |",
        "training loss",
        "held-out perplexity, text",
        "farebox-engine train --",
        "Limits",
    ):
        assert fact in card
    assert "CC-BY 2.0 FR" in card
    assert "Project Gutenberg" in card
    # The licence of the sentences asks that their authors be named wherever the model goes.
    assert len((demo.path() / "ATTRIBUTION.txt").read_text(encoding="utf-8").split(", ")) > 300


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Hello!", r"^(Hello|Hi)\b"),
        ("Who are you?", r"Farebox"),
        ("What is Farebox?", r"Farebox .*tokens?\b"),
        ("What is the capital of France?", r"Paris"),
        ("Thank you!", r"welcome"),
    ],
)
def test_answers_a_chat_turn(question: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(question, capsys)
    assert re.search(answer, said), said
    assert said[-1] in ".!?"


def test_tells_a_story_of_several_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    story = ask("Tell me a story about a fox.", capsys)
    assert "fox" in story
    assert len(re.findall(r"[A-Z][^.!?]+[.!?]", story)) >= 4


def test_transformers_computes_the_same_logits() -> None:
    reference = AutoModelForCausalLM.from_pretrained(demo.path(), dtype=torch.float32)
    reference.train(False)
    tokens = AutoTokenizer.from_pretrained(demo.path())("The king said to his daughter", return_tensors="pt")
    ours = load_model(demo.path(), device=torch.device("cpu"), dtype=torch.float32)
    length = tokens.input_ids.shape[1]
    with torch.no_grad():
        hidden = ours.model(tokens.input_ids[0], torch.arange(length), CausalAttention(length))
        logits = ours.model.logits(hidden)
        torch.testing.assert_close(logits, reference(**tokens).logits[0], rtol=1e-4, atol=1e-4)


def test_speaks_by_the_rules_of_its_folder() -> None:
    config = LlamaConfig.from_dict(json.loads((demo.path() / "config.json").read_text()))
    generation = json.loads((demo.path() / "generation_config.json").read_text())
    assert generation["do_sample"] is True
    assert 0 < generation["temperature"] <= 1
    assert tuple(generation["eos_token_id"]) == config.eos_token_ids
