"""Every family that the engine can run has a row in docs/engine/families.md, and no other has."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from farebox_engine import Engine
from farebox_engine.encoders import EncoderEngine
from farebox_engine.errors import LoadError
from farebox_engine.seq2seq.loader import load_seq2seq
from tests.conftest import ROOT

# An engine takes what is no encoder-decoder for a decoder.
_load_seq2seq = partial(load_seq2seq, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize(
    ("heading", "load"),
    [("Decoders", Engine.load), ("Encoders", EncoderEngine.load), ("Encoder-decoders", _load_seq2seq)],
)
def test_the_tables_are_what_the_engines_take(heading: str, load: Callable[..., Any], tmp_path: Path) -> None:
    """Each engine names its families to who brings another."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(LoadError, match="supported are: ") as refusal:
        load(tmp_path)
    taken = re.findall(r"[\w-]+", str(refusal.value).split("supported are: ")[1].split(".")[0])
    page = (ROOT / "docs" / "engine" / "families.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = section.split("| `model_type` |")[1].split("\n\n")[0]
    firsts = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert len(taken) >= 3
    assert {name for first in firsts for name in re.findall(r"`([^`]+)`", first)} == set(taken)
