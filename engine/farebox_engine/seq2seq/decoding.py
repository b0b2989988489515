"""One request while it is decoded: its hypotheses and the blocks that their keys and values fill."""

from __future__ import annotations

from dataclasses import dataclass, field

from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.seq2seq.beam import BeamSearch
from farebox_engine.seq2seq.constraints import Constraints


@dataclass(slots=True, eq=False)
class Hypothesis:
    """Decoder tokens, the start token first. `blocks` hold the keys and values of those computed."""

    tokens: list[int]
    blocks: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Decoding:
    """A request whose source is, or is about to be, encoded into `source_blocks`.

    `reserved` is how many blocks it may come to need. Without `beams` there is one hypothesis, the
    sequence's own. The keys and values of the first `computed` tokens of each hypothesis are in its
    blocks: all but the last, or fewer after the cache was lost. `furthest` is the highest that ever
    was, and `encoded` tells whether the source ever was: below and after it, work is done a second time.
    `copies` are blocks to be copied before the next step, to be written to.
    """

    sequence: Sequence
    constraints: Constraints
    beams: BeamSearch | None
    rows: list[Hypothesis]
    reserved: int
    source_blocks: list[int] = field(default_factory=list)
    computed: int = 0
    furthest: int = 0
    encoded: bool = False
    copies: list[tuple[int, int]] = field(default_factory=list)

    @property
    def source_length(self) -> int:
        return self.sequence.prompt_length

    @property
    def source(self) -> list[int]:
        return self.sequence.tokens[: self.sequence.prompt_length]

    @property
    def target_length(self) -> int:
        """How many tokens of each hypothesis the next step attends to, the one it computes included."""
        return self.computed + 1

    @property
    def lags(self) -> bool:
        """Whether the next step computes a token whose successor is known: what that yields is known."""
        return self.target_length < len(self.rows[0].tokens)
