"""Refusing weights that were quantized by others, by the name of their method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from farebox_engine.errors import LoadError

_FIELDS = ("quantization_config", "compression_config")
# Where those who quantize leave their settings beside config.json.
_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "quantization_config.json": "bitsandbytes",
    "hf_quant_config.json": "modelopt",
}


def refuse_quantized(folder: Path, description: Mapping[str, object]) -> None:
    """Refuse the checkpoint in `folder`, whose config.json says `description`, if it is quantized.

    Raises:
        LoadError: it is; the sentence names the method.
    """
    for name in _FIELDS:
        found = description.get(name)
        if found is not None:
            _refuse(folder, f"config.json has a {name}", _method(found))
    for name, method in _FILES.items():
        if (folder / name).exists():
            _refuse(folder, f"it has a {name}", method)


def _method(settings: object) -> str:
    if not isinstance(settings, Mapping):
        return "unnamed"
    method = settings.get("quant_method") or settings.get("quant_type")
    if method is None and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"
    return "unnamed" if method is None else str(method)


def _refuse(folder: Path, sign: str, method: str) -> None:
    raise LoadError(
        f"{folder} is quantized ({method}): {sign}, which is not supported; take the model that it was "
        "made from."
    )
