"""A tiny corpus with enough regularity to be learned in seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

ANIMALS = ("fox", "owl", "bear", "mouse", "goose", "wolf")
PLACES = ("the forest", "a house", "the lake", "a hill")


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """About 9,000 words of one pattern."""
    rng = random.Random(5)
    lines = [
        f"The {rng.choice(ANIMALS)} and the {rng.choice(ANIMALS)} went to {rng.choice(PLACES)}."
        for _ in range(1000)
    ]
    path = tmp_path / "tales.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    """120 conversations in which the answer names the animal of the question."""
    path = tmp_path / "talk.jsonl"
    rng = random.Random(6)
    with path.open("w", encoding="utf-8") as lines:
        for number in range(120):
            animal = rng.choice(ANIMALS)
            question = {"role": "user", "content": f"Question {number}: where is the {animal}?"}
            answer = {"role": "assistant", "content": f"The {animal} is in {rng.choice(PLACES)}."}
            lines.write(json.dumps({"messages": [question, answer]}) + "\n")
    return path
