"""How long a page's sentences are.

python -m tests.docs.sentences            median and 90th percentile of each page, in words
python -m tests.docs.sentences PAGE...    also the longest sentences of these pages
"""

import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import GUIDES, name, prose

# After a full stop, a question or an exclamation mark, with what closes a bracket or a quotation.
_END = re.compile(r"(?<=[.!?])[)\"”]*\s+(?=[(\"“]?[A-Z0-9]|code\b)")
_WORD = re.compile(r"\w[\w'’.,/%:-]*")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of a page's sentences, in words."""

    median: float
    ninetieth: float


def sentences(page: Path) -> list[str]:
    """The page's sentences; a list item without a full stop is one, too."""
    return [each for paragraph in prose(page) for each in _END.split(paragraph) if _WORD.search(each)]


def words(sentence: str) -> int:
    return len(_WORD.findall(sentence))


def measure(texts: Sequence[str]) -> Lengths:
    """Raises statistics.StatisticsError for fewer than two sentences."""
    counts = [words(text) for text in texts]
    return Lengths(statistics.median(counts), statistics.quantiles(counts, n=10, method="inclusive")[-1])


def main(arguments: Sequence[str]) -> None:
    for page in GUIDES:
        found = sentences(page)
        lengths = measure(found)
        line = f"{lengths.median:6.1f} {lengths.ninetieth:6.1f} of {len(found):3} sentences in {name(page)}\n"
        sys.stdout.write(line)
        if name(page) in arguments:
            for text in sorted(found, key=words, reverse=True)[: len(found) // 6]:
                sys.stdout.write(f"{words(text):12} {text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
