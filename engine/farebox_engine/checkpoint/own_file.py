"""Keeping a checkpoint from naming files that are not its own."""

from __future__ import annotations

from pathlib import Path

from farebox_engine.errors import LoadError


def refuse_foreign(path: Path) -> None:
    """Refuse to open `path`, if it is there, unless it is a plain file that lies where it stands.

    A link may lead to another file of its folder and, in Hugging Face's cache, to that model's blobs.

    Raises:
        LoadError: it is a link out of the folder, or no plain file.
    """
    refuse_astray(path)
    if path.exists() and not path.is_file():
        raise LoadError(f"{path} is no plain file; put the file itself there.")


def refuse_astray(path: Path) -> None:
    """As `refuse_foreign`, for a folder too."""
    target, home = path.resolve(), path.parent.resolve()
    if not any(target.is_relative_to(each) for each in (home, *_blobs(path.parent))):
        raise LoadError(f"{path} is a link that leads out of its folder; copy what it stands for there.")


def _blobs(folder: Path) -> list[Path]:
    """Where the links of a folder in Hugging Face's cache lead: models--*/snapshots/*/ to models--*/blobs."""
    return [
        each.parent.resolve() / "blobs"
        for each in (folder, *folder.absolute().parents)
        if each.name == "snapshots" and each.parent.name.startswith("models--")
    ]
