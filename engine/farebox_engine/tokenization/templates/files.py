"""The chat templates of a checkpoint, and which of them a conversation takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from farebox_engine.checkpoint.symlinks import refuse_escape, refuse_special_file
from farebox_engine.errors import LoadError

DEFAULT, WITH_TOOLS = "default", "tool_use"

T = TypeVar("T")

_LARGEST = 1 << 20
_FOLDER = "additional_chat_templates"


def read_templates(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """The templates by their names; empty where there is none.

    Where the folder has files of templates, tokenizer_config.json (`settings`) is not asked, as in
    `transformers`.

    Raises:
        LoadError: a template is too large, not readable, or no text.
    """
    found = {}
    if (folder / "chat_template.jinja").exists():
        found[DEFAULT] = _read(folder / "chat_template.jinja")
    if (folder / _FOLDER).is_dir():
        refuse_escape(folder / _FOLDER)
        for file in sorted((folder / _FOLDER).glob("*.jinja")):
            found[file.stem] = _read(file)
    return found or _listed(settings.get("chat_template"))


def template_for(templates: Mapping[str, T], *, with_tools: bool) -> T | None:
    """The one that `transformers` would choose; None where none is for this."""
    if with_tools and WITH_TOOLS in templates:
        return templates[WITH_TOOLS]
    return templates.get(DEFAULT)


def _read(file: Path) -> str:
    refuse_special_file(file)
    if file.stat().st_size > _LARGEST:
        raise LoadError(f"{file.name} is larger than {_LARGEST >> 20} MiB; shorten it.")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{file.name} is not readable as text ({error}); mend it.") from error


def _listed(templates: object) -> dict[str, str]:
    if templates is None:
        return {}
    if isinstance(templates, str):
        return {DEFAULT: templates}
    if isinstance(templates, list) and all(isinstance(entry, dict) for entry in templates):
        templates = {entry.get("name"): entry.get("template") for entry in templates}
    if isinstance(templates, dict) and all(
        isinstance(text, str) for pair in templates.items() for text in pair
    ):
        return templates
    raise LoadError("tokenizer_config.json has a chat_template that is no text; mend it there.")
