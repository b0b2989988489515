"""Every family that the engine can run has a row in docs/engine/families.md, and no other has."""

import re

import pytest

from farebox_engine.encoders.models.registry import ENCODERS
from farebox_engine.models.registry import FAMILIES as DECODERS
from farebox_engine.seq2seq.models.registry import FAMILIES as ENCODER_DECODERS
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("heading", "families"),
    [("Decoders", set(DECODERS)), ("Encoders", set(ENCODERS)), ("Encoder-decoders", set(ENCODER_DECODERS))],
)
def test_the_tables_are_the_registries(heading: str, families: set[str]) -> None:
    page = (ROOT / "docs" / "engine" / "families.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = section.split("| `model_type` |")[1].split("\n\n")[0]
    firsts = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert {name for first in firsts for name in re.findall(r"`([^`]+)`", first)} == families
