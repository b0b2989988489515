"""Reading a checkpoint's JSON files."""

from __future__ import annotations

import json
from pathlib import Path

from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.errors import LoadError

_MAX_BYTES = 256 << 20  # the largest tokenizer.json known is a tenth of this


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        LoadError: the file is missing, too large, not the folder's own, or holds no JSON object.
    """
    content = _parse(path)
    if not isinstance(content, dict):
        raise LoadError(f"{path} holds no JSON object; copy or export it again.")
    return content


def read_json_objects(path: Path) -> list[dict[str, object]]:
    """As `read_json`, for a file that holds a list of objects."""
    content = _parse(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise LoadError(f"{path} holds no list of JSON objects; copy or export it again.")
    return content


def _parse(path: Path) -> object:
    refuse_special_file(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LoadError(
                f"{path} is larger than {_MAX_BYTES >> 20} MiB, which cannot be right; export it again."
            )
        content: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LoadError(f"{path.parent} has no {path.name}; give a whole Hugging Face checkpoint.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not readable as JSON ({error}); copy or export it again.") from error
    return content


def read_optional_json(path: Path) -> dict[str, object]:
    """As `read_json`, but an empty object if there is no such file."""
    return read_json(path) if path.exists() else {}
