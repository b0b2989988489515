"""Keeping a checkpoint's symbolic links from leading out of its folder."""

from __future__ import annotations

from pathlib import Path

from farebox_engine.errors import LoadError


def refuse_special_file(path: Path) -> None:
    """Refuse to open `path`, if it is there, unless it is a regular file of its folder.

    A link may lead to another file of its folder and, in Hugging Face's cache, to that model's blobs.

    Raises:
        LoadError: it is a link out of the folder, or no regular file.
    """
    refuse_escape(path)
    if path.exists() and not path.is_file():
        raise LoadError(f"{path} is no plain file; put the file itself there.")


def refuse_escape(path: Path) -> None:
    """Refuse a file or a folder that is a link out of the folder it lies in.

    Raises:
        LoadError: it is such a link.
    """
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
