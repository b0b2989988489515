"""The `farebox` command."""

from farebox.cli.main import farebox


def main() -> None:
    """The console script's entry."""
    farebox(prog_name="farebox")


__all__ = ["farebox", "main"]
