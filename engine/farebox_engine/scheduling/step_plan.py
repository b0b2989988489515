"""What a step will compute, while it is put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from farebox_engine.scheduling.sequence import Sequence, Span


@dataclass(slots=True)
class StepPlan:
    """The step being put together: its spans, and the tokens it may still take."""

    budget: int
    spans: dict[Sequence, Span] = field(default_factory=dict)
    short_of_blocks: bool = False

    def take(self, sequence: Sequence) -> int:
        """How many of the sequence's tokens fit in."""
        return min(sequence.pending, self.budget)

    def add(self, sequence: Sequence, length: int) -> None:
        self.spans[sequence] = Span(sequence, sequence.computed, length)
        self.budget -= length

    def drop(self, sequence: Sequence) -> None:
        span = self.spans.pop(sequence, None)
        if span is not None:
            self.budget += span.length
