"""What may be read of a checkpoint's folder: plain files of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.errors import LoadError

_HASH_CHUNK = 1 << 20
_SINGLE = "model.safetensors"
_ENDING = ".safetensors"
_INDEX_ENDING = ".safetensors.index.json"
_INDEX = f"model{_INDEX_ENDING}"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in order of their names: those that `transformers` reads.

    That is the file which config.json names as `transformers_weights`, or model.safetensors, or what
    model.safetensors.index.json names. Whatever else lies in the folder is never opened: other
    variants, a training's state, adapters, consolidated weights.

    Raises:
        LoadError: there are none, one is missing, or one lies outside of the folder.
    """
    files = _weight_files(folder)
    for path in files:
        refuse_special_file(path)
    return files


def _weight_files(folder: Path) -> list[Path]:
    named = read_optional_json(folder / "config.json").get("transformers_weights")
    if named is not None:
        return _named_files(folder, named)
    if (folder / _SINGLE).exists():
        return [folder / _SINGLE]
    if (folder / _INDEX).exists():
        return _indexed_files(folder, folder / _INDEX)
    raise LoadError(_refusal(folder))


def _named_files(folder: Path, name: object) -> list[Path]:
    """What the field `transformers_weights` names: a file, or an index."""
    where = f"{folder / 'config.json'} has transformers_weights {name!r}"
    if not isinstance(name, str) or Path(name).name != name or not name.endswith((_ENDING, _INDEX_ENDING)):
        raise LoadError(f"{where}, which is no safetensors file in its folder; export the model again.")
    if not (folder / name).exists():
        raise LoadError(f"{where}, but there is no such file; copy it there.")
    return _indexed_files(folder, folder / name) if name.endswith(_INDEX_ENDING) else [folder / name]


def _indexed_files(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise LoadError(f"{index} has no weight_map; export the model again.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(_ENDING):
            raise LoadError(
                f"{index} names {name!r}, which is no safetensors file in its folder; export the model again."
            )
        if not (folder / name).exists():
            raise LoadError(f"{folder} lacks {name}, which its index names; copy the file there.")
    return [folder / name for name in names]


def _refusal(folder: Path) -> str:
    """Why there is nothing to read."""
    others = sorted(path.name for path in folder.glob(f"*{_ENDING}"))
    if others:
        return (
            f"{folder} has neither {_SINGLE} nor {_INDEX}, and {others[0]} is not read in their place; "
            f"rename it to {_SINGLE} if it holds the model."
        )
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.pkl")):
        return (
            f"{folder} holds its weights in a pickle, which can run code when it is opened; "
            "convert them to safetensors."
        )
    return f"{folder} has no {_SINGLE}; export the model as safetensors."


def hash_files(files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files`, hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while data := file.read(_HASH_CHUNK):
                digest.update(data)
    return digest.hexdigest()
