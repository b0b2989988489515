"""Sound folders of every kind of model, ways to spoil them, and what is said of them then."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farebox_engine import LoadError, load_model
from farebox_engine.encoders import load_encoder
from farebox_engine.lora.reading import adaptable_places, read_adapter
from farebox_engine.seq2seq.loader import load_seq2seq
from tests.engine.checkpoints import build_checkpoint
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.lora.adapters import build_adapter
from tests.engine.seq2seq.checkpoints import build_seq2seq

CPU = torch.device("cpu")
Spoil = Callable[[Path], object]


def build_folders(root: Path) -> dict[str, Path]:
    """A sound folder of each kind."""
    decoder = build_checkpoint(root / "decoder")
    return {
        "decoder": decoder,
        "encoder": build_encoder(root / "encoder", "Bert", num_hidden_layers=1),
        "classifier": build_encoder(root / "classifier", "DistilBert", "ForSequenceClassification"),
        "seq2seq": build_seq2seq(root / "seq2seq", "marian"),
        "t5": build_seq2seq(root / "t5", "t5"),
        "adapter": build_adapter(root / "adapter", decoder, ["q_proj"]),
    }


def load(kind: str, folder: Path, folders: dict[str, Path]) -> object:
    match kind:
        case "decoder":
            return load_model(folder, device=CPU, dtype=torch.float32)
        case "encoder" | "classifier":
            return load_encoder(folder, device=CPU, dtype=torch.float32)
        case "seq2seq" | "t5":
            return load_seq2seq(folder, device=CPU, dtype=torch.float32)
    base = load_model(folders["decoder"], device=torch.device("meta"), dtype=torch.float32)
    return read_adapter("name", folder, base, adaptable_places(base))


def refusal(kind: str, folder: Path, folders: dict[str, Path]) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(LoadError) as failure:
        load(kind, folder, folders)
    message = str(failure.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def spoiled(kind: str, spoil: Spoil, folders: dict[str, Path], place: Path) -> str:
    """What is said of a sound folder's copy that was spoiled."""
    folder = Path(shutil.copytree(folders[kind], place / "copy"))
    load(kind, folder, folders)
    spoil(folder)
    return refusal(kind, folder, folders)


def config_of(folder: Path) -> Path:
    return next(each for name in ("config.json", "adapter_config.json") if (each := folder / name).exists())


def weights_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def changed(**changes: Any) -> Spoil:
    def change(folder: Path) -> None:
        path = config_of(folder)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change
