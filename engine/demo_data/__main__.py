"""Build the demo model's training data from a folder of public-domain books and Tatoeba sentences.

    python -m demo_data --texts DIR --out DIR

writes ``prose.txt``, ``chat.jsonl``, ``DATA.md`` (for ``farebox-engine train --data-card``) and
``ATTRIBUTION.txt``, which must travel with the model.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from demo_data.books import documents
from demo_data.card import attribution, data_card
from demo_data.dialogue import DialogueWriter
from demo_data.sentences import read_pairs
from demo_data.stories import tale
from farebox_engine.training.corpus import END_OF_TEXT

_BOOKS = ("grimms-fairy-tales.txt", "little-women.txt", "twain.txt")
_PAIRS = "tatoeba-eng-cmn.tsv"
_SENTENCES_PER_DOCUMENT = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the data; return 0, or 2 when a text is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help=f"holds {', '.join(_BOOKS)}, {_PAIRS}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=30_000)
    parser.add_argument("--tales", type=int, default=1_500, help="tales told as plain text")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    missing = [name for name in (*_BOOKS, _PAIRS) if not (options.texts / name).is_file()]
    if missing:
        sys.stderr.write(f"{options.texts} lacks {', '.join(missing)}.\n")
        return 2
    build(options.texts, options.out, options.conversations, options.tales, options.seed)
    return 0


def build(texts: Path, out: Path, conversations: int, tales: int, seed: int) -> None:
    """Write the four files to ``out``; the same texts and seed give the same bytes."""
    rng = random.Random(seed)  # noqa: S311 (variety, not secrecy)
    sentences, authors = read_pairs((texts / _PAIRS).read_text(encoding="utf-8"))
    rng.shuffle(sentences)
    books = [document for name in _BOOKS for document in documents((texts / name).read_text("utf-8"))]
    groups = range(0, len(sentences), _SENTENCES_PER_DOCUMENT)
    prose = books + ["\n".join(sentences[start : start + _SENTENCES_PER_DOCUMENT]) for start in groups]
    prose += [tale(rng).text for _ in range(tales)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "prose.txt").write_text(f"\n{END_OF_TEXT}\n".join(prose) + "\n", encoding="utf-8")
    with (out / "chat.jsonl").open("w", encoding="utf-8") as lines:
        for conversation in DialogueWriter(seed, sentences, books).write(conversations):
            lines.write(json.dumps(asdict(conversation)) + "\n")
    (out / "DATA.md").write_text(
        data_card(len(sentences), len(authors), conversations, tales), encoding="utf-8"
    )
    (out / "ATTRIBUTION.txt").write_text(attribution(authors), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
