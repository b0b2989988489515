"""The program that writes the demo model's training data."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from demo_data.__main__ import main
from demo_data.books import documents
from demo_data.held_out import held_out_tales
from demo_data.stories import story_turns
from farebox_engine.bench.accuracy import held_out_text
from farebox_engine.training.corpus import read_chats, read_texts

BOOK = """\ufeffTHE GOLDEN BIRD
A certain king had a beautiful garden. In the garden stood a tree. The tree bore golden apples. {filler}
'One feather is of no use to me,' said the king. 'I must have the bird\u2019s nest.'

HANS IN LUCK
Some men are born to good luck. All they do comes right. All that falls to them is so much gain. {filler}
*****
Source: http://www.gutenberg.org/ebooks/2591
"""


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder like the one the program wants, with little in it."""
    folder = tmp_path / "texts"
    folder.mkdir()
    book = BOOK.format(filler="He walked on until the evening came and the stars stood in the sky. " * 12)
    for name in ("grimms-fairy-tales.txt", "little-women.txt", "twain.txt"):
        (folder / name).write_text(book, encoding="utf-8")
    lines = [
        f"The {word} is near the old house number {number}.\t\u5bb6\t#{number} (ann{number % 3}) & #1 (bob)"
        for number, word in enumerate(["garden", "river", "window", "mountain"] * 10)
    ]
    (folder / "tatoeba-eng-cmn.tsv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def build(texts: Path, out: Path) -> int:
    return main(["--texts", str(texts), "--out", str(out), "--conversations", "1500", "--tales", "5"])


def test_a_book_loses_headings_licence_and_typography(texts: Path) -> None:
    first, second = documents((texts / "twain.txt").read_text(encoding="utf-8"))
    assert first.startswith("A certain king")
    assert '"One feather is of no use to me," said the king. "I must have the bird\'s nest."' in first
    assert second.startswith("Some men are born")
    assert "gutenberg" not in second
    assert first.isascii()


def test_hard_wrapped_lines_become_paragraphs() -> None:
    wrapped = (
        "It was in Warwick Castle that I came across the curious\nstranger whom I am going to talk about.\n"
    )
    (document,) = documents(wrapped * 8)
    assert document.splitlines()[0].endswith("the curious stranger whom I am going to talk about.")


def test_the_same_seed_writes_the_same_bytes_and_all_of_it_can_be_trained_on(
    texts: Path, tmp_path: Path
) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    assert build(texts, once) == 0
    assert build(texts, again) == 0
    for name in ("prose.txt", "chat.jsonl", "DATA.md", "ATTRIBUTION.txt"):
        assert (once / name).read_bytes() == (again / name).read_bytes()
    assert len(read_chats([once / "chat.jsonl"])) == 1500
    assert len(read_texts([once / "prose.txt"])) > 10
    assert "ann0, ann1 and ann2" in (once / "ATTRIBUTION.txt").read_text()


def test_conversations_alternate_and_leave_no_template_behind(texts: Path, tmp_path: Path) -> None:
    assert build(texts, tmp_path / "out") == 0
    for line in (tmp_path / "out" / "chat.jsonl").read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        turns = [message for message in messages if message["role"] != "system"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        for message in messages:
            assert not re.search(r"[\[\]{}|]|  ", message["content"]), message
        for turn in turns[1::2]:
            assert turn["content"][0].isupper() or turn["content"][0] == '"', turn
            assert turn["content"][-1] in '.!?"' or ", " in turn["content"][-20:], turn


def test_answers_about_a_story_are_in_the_story() -> None:
    rng = random.Random(3)
    asked = 0
    for _ in range(300):
        told, *questions = story_turns(rng)
        for question, answer in questions:
            if "looked for" in answer:
                name, _, thing = answer.rstrip(".").partition(" looked for ")
                assert name in told[1]
                assert thing in told[1], question
                asked += 1
    assert asked > 20


def test_a_missing_text_is_named(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (texts / "twain.txt").unlink()
    assert build(texts, tmp_path / "out") == 2
    assert "lacks twain.txt" in capsys.readouterr().err


def test_the_text_that_accuracy_is_measured_on_is_what_the_program_writes() -> None:
    assert held_out_text() == held_out_tales()
