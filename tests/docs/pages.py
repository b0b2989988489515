"""The pages of the manual, taken apart: prose, code, links."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

README = ROOT / "README.md"
ALL_PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
# Decisions and records are of their day: they are not written anew.
RECORDS = ("adr", "benchmarks", "changelog.md")
GUIDES = [page for page in ALL_PAGES if not {*page.relative_to(ROOT).parts} & {*RECORDS}]

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```[^\S\n]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")


def name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def without_blocks(page: Path) -> str:
    """A page's text without its fenced code."""
    return _FENCE.sub("", page.read_text())


def code_spans(page: Path) -> Iterator[str]:
    """What stands between backticks in a page's text and tables, each on one line."""
    for span in _SPAN.findall(without_blocks(page)):
        yield " ".join(span.split())


def code(page: Path) -> Iterator[str]:
    """The code spans, and the lines of the fenced code; a line that ends in a backslash goes on."""
    yield from code_spans(page)
    for block in _FENCE.findall(page.read_text()):
        yield from block.replace("\\\n", " ").splitlines()


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures."""
    for _, target in _LINK.findall(_SPAN.sub("code", without_blocks(page))):
        yield target


def anchors(page: Path) -> set[str]:
    """What may follow the # of a link to the page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def prose(page: Path) -> Iterator[str]:
    """The paragraphs and list items, each on one line.

    Headings, tables, pictures and addresses are left out; a code span is one word, a link its text.
    """
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", without_blocks(page))
    text = _LINK.sub(r"\1", _SPAN.sub("code", text))
    text = re.sub(r"<?\bhttps?://\S+|\*", "", text)
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        ends = not line.strip() or line.startswith(("#", "|"))
        if (ends or _ITEM.match(line)) and lines:
            yield " ".join(lines)
            lines = []
        if not ends:
            lines.append(_ITEM.sub("", line).strip())
