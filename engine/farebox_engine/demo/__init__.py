"""The demo model that travels in the wheel; its model card is README.md in this folder."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """Return the Hugging Face folder of the demo model."""
    return Path(__file__).parent
