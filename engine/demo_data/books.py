"""Prose from books: one document per chapter or tale, in plain ASCII punctuation."""

from __future__ import annotations

import re

_PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-", "_": None}
)
_FOOTER = re.compile(r"^\*{3,}.*", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(CHAPTER [A-Z]+|[A-Z][A-Z ,'-]{3,})$")
_WRAPPED_LINE = 75


def documents(text: str) -> list[str]:
    """Cut a book into chapters or tales, without headings, licence lines and typographic marks."""
    text = _FOOTER.sub("", text.lstrip("\ufeff").replace("\r\n", "\n").translate(_PLAIN))
    chapters: list[list[str]] = [[]]
    for paragraph in _paragraphs(text.splitlines()):
        if _HEADING.match(paragraph):
            chapters.append([])
        else:
            chapters[-1].append(_double_quotes(paragraph))
    return ["\n".join(chapter) for chapter in chapters if sum(map(len, chapter)) > 500]


def _paragraphs(lines: list[str]) -> list[str]:
    """Join hard-wrapped lines; a book whose lines are long already has one paragraph a line."""
    wrapped = max((len(line) for line in lines), default=0) < 2 * _WRAPPED_LINE
    paragraphs: list[str] = []
    open_paragraph = False
    for line in (" ".join(line.split()) for line in lines):
        if not line:
            open_paragraph = False
        elif open_paragraph and not _HEADING.match(line):
            paragraphs[-1] += f" {line}"
        else:
            paragraphs.append(line)
        # Blank lines are not kept everywhere: a short line that ends a sentence ends its paragraph too.
        ends = len(line) < _WRAPPED_LINE - 20 and line.endswith((".", "!", "?", '"', ":"))
        open_paragraph = wrapped and bool(line) and not ends and not _HEADING.match(line)
    return paragraphs


def _double_quotes(paragraph: str) -> str:
    """Turn speech in single quotes into double ones, leaving apostrophes alone."""
    if '"' in paragraph:
        return paragraph
    opened = re.sub(r"(?<![A-Za-z.,!?])'(?=[A-Z])", '"', paragraph)
    return re.sub(r"(?<=[,.!?;:])'(?![A-Za-z])", '"', opened)
