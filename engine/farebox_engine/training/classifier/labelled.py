"""Reading texts with labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farebox_engine.training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Example:
    """A text and the name of its label."""

    text: str
    label: str


def read_tables(paths: Sequence[Path]) -> list[Example]:
    """Read UTF-8 lines ``label<TAB>text``.

    Raises:
        TrainingError: a file cannot be read, or a line is something else; it names file and line.
    """
    examples = []
    for path in paths:
        for number, line in _lines(path):
            label, tab, text = line.partition("\t")
            if not tab or not label.strip() or not text.strip():
                raise TrainingError(f"{path}, line {number}: expected a label, a tab and a text.")
            examples.append(Example(text.strip(), label.strip()))
    return examples


def read_by_label(files: Sequence[tuple[str, Path]]) -> list[Example]:
    """Read UTF-8 files that hold texts of one label each, a text a line.

    Raises:
        TrainingError: a file cannot be read.
    """
    return [Example(line.strip(), label) for label, path in files for _, line in _lines(path)]


def split(examples: Sequence[Example], held_out: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Shuffle and split into those to train on and a share to judge by.

    Raises:
        TrainingError: there are too few texts, or not two labels, to learn anything.
    """
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  # not for secrets
    kept = round(len(shuffled) * held_out)
    training = shuffled[kept:]
    if len({example.label for example in training}) < 2:
        raise TrainingError("a classifier needs texts of at least two labels.")
    return training, shuffled[:kept]


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as text: {error}.") from error
    found = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise TrainingError(f"{path} holds no text.")
    return found
