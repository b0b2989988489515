"""Under which names a checkpoint has stored what a family calls by its own: prefixes and endings vary."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from farebox_engine.checkpoint.fields import ConfigError


def stored_names(names: Iterable[str], standard: Callable[[str], str]) -> dict[str, str]:
    """Names as `standard` spells them, to the stored ones.

    Raises:
        ConfigError: two of them stand for one, of which only one could be read.
    """
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(standard(name), name)
        if other != name:
            raise ConfigError(f"the checkpoint holds a tensor twice, as {other} and as {name}.")
    return found
