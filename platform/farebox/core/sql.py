"""SQL scripts, statement by statement: a prepared statement takes only one."""

import re
from collections.abc import Iterator

_PIECE = re.compile(r"(\$\w*\$).*?\1|'(?:[^']|'')*'|--[^\n]*|(;)", re.DOTALL)


def statements(script: str) -> Iterator[str]:
    """Split a script at its semicolons, leaving those in `$$` bodies, strings and comments alone."""
    start = 0
    for match in _PIECE.finditer(script):
        if match.group(2):
            if piece := script[start : match.start()].strip():
                yield piece
            start = match.end()
    if piece := script[start:].strip():
        yield piece
