"""What may be read of a checkpoint's folder: plain files of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.errors import LoadError

_HASH_CHUNK = 1 << 20
_INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, by its index if it has one, in order of their names.

    Raises:
        LoadError: there are none, one is missing, or one lies outside of the folder.
    """
    files = list(_weight_files(folder))
    for path in files:
        refuse_special_file(path)
    return files


def _weight_files(folder: Path) -> Iterator[Path]:
    index = read_optional_json(folder / _INDEX)
    if not index:
        yield from _all_weight_files(folder)
        return
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise LoadError(f"{folder / _INDEX} has no weight_map; export the model again.")
    for name in sorted({str(name) for name in weight_map.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise LoadError(
                f"{folder / _INDEX} names {name!r}, which is no safetensors file in its folder; "
                "export the model again."
            )
        if not (folder / name).exists():
            raise LoadError(f"{folder} lacks {name}, which its index names; copy the file there.")
        yield folder / name


def _all_weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.pkl")):
        raise LoadError(
            f"{folder} holds its weights in a pickle, which can run code when it is opened; "
            "convert them to safetensors."
        )
    raise LoadError(f"{folder} has no *.safetensors file; export the model as safetensors.")


def hash_files(files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files`, hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while data := file.read(_HASH_CHUNK):
                digest.update(data)
    return digest.hexdigest()
