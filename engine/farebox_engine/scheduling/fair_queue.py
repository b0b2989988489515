"""Whose request is next: strict priority classes, and within each the tenants' fair shares."""

from __future__ import annotations

from farebox_engine.params import PRIORITIES
from farebox_engine.scheduling.fair_shares import FairShares
from farebox_engine.scheduling.sequence import Sequence

INPUT_COST = 1.0
# Found in the prefix cache: nothing is computed, only blocks are occupied.
CACHED_COST = 0.1
# The paper's ratio: an output token takes a whole step, input tokens share one.
OUTPUT_COST = 2.0


class FairQueue:
    """Waiting sequences by priority class, highest first, and in each class by `FairShares`.

    With one tenant this is first come, first served. A sequence that goes back, preempted or
    after its cache was lost, is put before its tenant's others; it was charged for its prompt
    before and is not charged again.
    """

    def __init__(self) -> None:
        self._classes: dict[int, FairShares[Sequence]] = {
            priority: FairShares() for priority in sorted(PRIORITIES, reverse=True)
        }

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __contains__(self, sequence: Sequence) -> bool:
        return self._class(sequence).holds(sequence.request.tenant, sequence)

    @property
    def tenants(self) -> int:
        """How many counters are kept, those of idle tenants included."""
        return sum(each.tenants for each in self._classes.values())

    def push(self, sequence: Sequence) -> None:
        """Add an arrival."""
        request = sequence.request
        self._class(sequence).push(request.tenant, sequence, request.weight)

    def push_preempted(self, sequence: Sequence) -> None:
        """Take back an admitted sequence."""
        shares = self._class(sequence)
        shares.push_first(sequence.request.tenant, sequence)
        shares.leave(sequence.request.tenant)

    def peek(self, above: int | None = None) -> Sequence | None:
        """The sequence to admit next, of a priority higher than `above` if that is given."""
        for priority, waiting in self._classes.items():
            if above is not None and priority <= above:
                return None
            sequence = waiting.peek()
            if sequence is not None:
                return sequence
        return None

    def admit(self, sequence: Sequence) -> None:
        """Take out the sequence that `peek` returned, and charge its tenant for the prompt."""
        shares, tenant = self._class(sequence), sequence.request.tenant
        shares.admit(tenant)
        if not sequence.admitted:
            sequence.admitted = True
            computed = sequence.prompt_length - sequence.reused_tokens
            shares.charge(tenant, INPUT_COST * computed + CACHED_COST * sequence.reused_tokens)

    def pass_over(self, sequence: Sequence) -> None:
        """Let others go before the sequence that `peek` returned, until `restore`."""
        self._class(sequence).pass_over(sequence.request.tenant)

    def restore(self) -> None:
        """Put those passed over back to where they were."""
        for each in self._classes.values():
            each.restore()

    def remove(self, sequence: Sequence) -> None:
        """Take out a waiting sequence that was cancelled."""
        self._class(sequence).remove(sequence.request.tenant, sequence)

    def leave(self, sequence: Sequence) -> None:
        """Note that an admitted sequence has ended."""
        self._class(sequence).leave(sequence.request.tenant)

    def charge_output(self, sequence: Sequence, tokens: int) -> None:
        """Charge the tenant of an admitted sequence for generated tokens."""
        self._class(sequence).charge(sequence.request.tenant, OUTPUT_COST * tokens)

    def _class(self, sequence: Sequence) -> FairShares[Sequence]:
        return self._classes[sequence.request.priority]
