"""Pages for readers in a hurry, many of whom speak English as a second language."""

from pathlib import Path

import pytest

from tests.docs.pages import GUIDES, name
from tests.docs.sentences import measure, sentences, words

MEDIAN, NINETIETH = 14, 25


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_page_has_short_sentences(page: Path) -> None:
    found = sentences(page)
    lengths = measure(found)
    assert lengths.median <= MEDIAN, max(found, key=words)
    assert lengths.ninetieth <= NINETIETH, max(found, key=words)


def test_every_manual_page_is_measured() -> None:
    pages = {name(page) for page in GUIDES}
    assert {"README.md", "docs/architecture.md", "docs/api.md", "docs/operating.md"} <= pages
    assert len([page for page in pages if page.startswith("docs/engine/")]) >= 5
    assert not any("/adr/" in page or "/benchmarks/" in page for page in pages)


def test_only_prose_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading is none\nOne two three. `a b c` four\n[five six](seven.md). Is it? Version 1.5 is.\n\n"
        "| a | table |\n| - | - |\n\n```\ncode. Code.\n```\n1. *An* item without a stop\n"
        "- https://x.example/y another\n![a picture](dashboard.png)\n"
    )
    assert [words(each) for each in sentences(page)] == [3, 4, 2, 3, 5, 1]
