"""The keys by which prefixes are found in the cache, of one sequence and of all that run."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq

from farebox_engine.scheduling.blocks import block_key
from farebox_engine.scheduling.sequence import Sequence


def prefix_keys(sequence: Sequence, length: int, block_size: int) -> Iterator[bytes]:
    """The keys of the full blocks among the first `length` tokens, computed once per block."""
    known = sequence.block_keys
    for index in range(length // block_size):
        if index == len(known):
            parent = known[-1] if known else sequence.root_key
            tokens = sequence.tokens[index * block_size : (index + 1) * block_size]
            known.append(block_key(parent, tokens))
        yield known[index]


def keys_underway(running: Seq[Sequence], block_size: int) -> dict[bytes, int]:
    """The keys of the blocks that running prompts will still fill, with their priorities.

    `running` are by rank, highest first.
    """
    keys: dict[bytes, int] = {}
    # From low to high priority, so that the highest stays.
    for sequence in reversed(running):
        if sequence.pending > 1:
            known = list(prefix_keys(sequence, len(sequence.tokens), block_size))
            missing = known[sequence.computed // block_size :]
            keys.update(dict.fromkeys(missing, sequence.request.priority))
    return keys
