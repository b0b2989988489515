"""Numbers on a command line, with their bounds, and help that names every default."""

from __future__ import annotations

import argparse


class DefaultsShown(argparse.HelpFormatter):
    """Tells each option's default, unless its help does or there is none."""

    def add_argument(self, action: argparse.Action) -> None:
        told = action.help or ""
        nothing = any(action.default is each for each in (None, False, argparse.SUPPRESS))
        if not nothing and action.default != [] and "default" not in told:
            action.help = f"{told}; default: %(default)s".removeprefix("; ")
        super().add_argument(action)


def told(documentation: str | None) -> str:
    """A module's documentation for its command's help: a terminal shows the marks of code as they are."""
    return (documentation or "").replace("`", "")


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def share(text: str) -> float:
    """A number from 0 up to, but not including, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {text}")
    return value
