"""One request while it is decoded: its hypotheses and the blocks that their keys and values fill."""

from __future__ import annotations

from dataclasses import dataclass, field

from farebox_engine.seq2seq.beam import BeamSearch
from farebox_engine.seq2seq.constraints import Constraints
from farebox_engine.sequence import Sequence


@dataclass(slots=True, eq=False)
class Hypothesis:
    """Decoder tokens, the start token first. `blocks` hold the keys and values of all but the last."""

    tokens: list[int]
    blocks: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Decoding:
    """A request whose source is, or is about to be, encoded into `source_blocks`.

    `reserved` is how many blocks it may come to need, `device_ns` its share of the device
    so far. Without `beams` there is one hypothesis, the sequence's own.
    """

    sequence: Sequence
    constraints: Constraints
    beams: BeamSearch | None
    rows: list[Hypothesis]
    reserved: int
    source_blocks: list[int] = field(default_factory=list)
    device_ns: int = 0

    @property
    def source_length(self) -> int:
        return self.sequence.prompt_length

    @property
    def source(self) -> list[int]:
        return self.sequence.tokens[: self.sequence.prompt_length]

    @property
    def target_length(self) -> int:
        """Tokens of each hypothesis, all of one length."""
        return len(self.rows[0].tokens)
