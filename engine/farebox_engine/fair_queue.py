"""Whose request is next: fair shares among tenants, within strict priority classes.

The virtual token counter of Sheng et al., "Fairness in Serving Large Language Models"
(OSDI 2024), algorithm 2. Each tenant has a counter of the service it was given, divided
by its weight, and the backlogged tenant with the lowest counter is next. A tenant that
becomes backlogged has its counter lifted to the lowest of the backlogged ones, so that
nobody saves up credit while idle. Between two tenants that stay backlogged, the service
given since any moment then differs by a bounded number of tokens, whatever they ask for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from farebox_engine.params import PRIORITIES
from farebox_engine.sequence import Sequence

INPUT_COST = 1.0
# Found in the prefix cache: nothing is computed, only blocks are occupied.
CACHED_COST = 0.1
# The paper's ratio: an output token takes a whole step, input tokens share one.
OUTPUT_COST = 2.0
IDLE_KEPT = 1024
_LOOKAHEAD = 16


@dataclass(slots=True, eq=False)
class _Tenant:
    """What one tenant has in one priority class. `passed` are waiting, but not to be taken in this step."""

    weight: float = 1.0
    counter: float = 0.0
    waiting: deque[Sequence] = field(default_factory=deque)
    passed: deque[Sequence] = field(default_factory=deque)
    running: int = 0


class FairQueue:
    """Waiting sequences by priority class, highest first, and in each class by fair shares.

    With one tenant this is first come, first served. A preempted sequence goes back to
    the front of its tenant; it was charged for its prompt before and is not charged again.
    """

    def __init__(self) -> None:
        self._classes = {priority: _PriorityClass() for priority in sorted(PRIORITIES, reverse=True)}

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._class(sequence)

    @property
    def tenants(self) -> int:
        """How many counters are kept, those of idle tenants included."""
        return sum(each.tenants for each in self._classes.values())

    def push(self, sequence: Sequence) -> None:
        """Add an arrival."""
        self._class(sequence).push(sequence)

    def push_preempted(self, sequence: Sequence) -> None:
        """Take back an admitted sequence."""
        self._class(sequence).push_preempted(sequence)

    def peek(self, above: int | None = None) -> Sequence | None:
        """The sequence to take up next, of a priority higher than `above` if that is given."""
        for priority, waiting in self._classes.items():
            if above is not None and priority <= above:
                return None
            sequence = waiting.peek()
            if sequence is not None:
                return sequence
        return None

    def admit(self, sequence: Sequence) -> None:
        """Take out the sequence that `peek` returned, and charge its tenant for the prompt."""
        self._class(sequence).admit(sequence)

    def pass_over(self, sequence: Sequence) -> None:
        """Let others go before the sequence that `peek` returned, until `restore`."""
        self._class(sequence).pass_over(sequence)

    def restore(self) -> None:
        """Put those passed over back to where they were."""
        for each in self._classes.values():
            each.restore()

    def remove(self, sequence: Sequence) -> None:
        """Take out a waiting sequence that was cancelled."""
        self._class(sequence).remove(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Note that an admitted sequence has ended."""
        self._class(sequence).leave(sequence)

    def charge_output(self, sequence: Sequence, tokens: int) -> None:
        """Charge the tenant of an admitted sequence for generated tokens."""
        self._class(sequence).charge(sequence, OUTPUT_COST * tokens)

    def _class(self, sequence: Sequence) -> _PriorityClass:
        return self._classes[sequence.request.priority]


class _PriorityClass:
    """The tenants of one class and their counters.

    A tenant is active while it has a sequence waiting or running. Of idle ones only the
    counters that still matter are kept, the highest `IDLE_KEPT` at least: one below the
    lowest backlogged counter would be lifted to it anyway.
    """

    def __init__(self) -> None:
        self._active: dict[bytes | str, _Tenant] = {}
        self._idle: dict[bytes | str, _Tenant] = {}
        # In the order of becoming backlogged, which breaks ties.
        self._backlogged: dict[_Tenant, None] = {}
        self._touched: dict[_Tenant, None] = {}
        self._last_to_leave = _Tenant()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, sequence: Sequence) -> bool:
        tenant = self._active.get(sequence.request.tenant)
        return tenant is not None and sequence in tenant.waiting

    @property
    def tenants(self) -> int:
        return len(self._active) + len(self._idle)

    def push(self, sequence: Sequence) -> None:
        tenant = self._enter(sequence)
        tenant.weight = sequence.request.weight
        tenant.waiting.append(sequence)

    def push_preempted(self, sequence: Sequence) -> None:
        tenant = self._enter(sequence)
        tenant.running -= 1
        tenant.waiting.appendleft(sequence)

    def peek(self) -> Sequence | None:
        ready = [tenant for tenant in self._backlogged if tenant.waiting and len(tenant.passed) < _LOOKAHEAD]
        if not ready:
            return None
        return min(ready, key=lambda tenant: tenant.counter).waiting[0]

    def admit(self, sequence: Sequence) -> None:
        tenant = self._active[sequence.request.tenant]
        tenant.waiting.popleft()
        tenant.running += 1
        if not sequence.admitted:
            sequence.admitted = True
            computed = sequence.prompt_length - sequence.cached_tokens
            self.charge(sequence, INPUT_COST * computed + CACHED_COST * sequence.cached_tokens)
        self._took(tenant, sequence)

    def pass_over(self, sequence: Sequence) -> None:
        tenant = self._active[sequence.request.tenant]
        tenant.passed.append(tenant.waiting.popleft())
        self._touched[tenant] = None

    def restore(self) -> None:
        for tenant in self._touched:
            tenant.waiting.extendleft(reversed(tenant.passed))
            tenant.passed.clear()
        self._touched.clear()

    def remove(self, sequence: Sequence) -> None:
        tenant = self._active[sequence.request.tenant]
        tenant.waiting.remove(sequence)
        self._took(tenant, sequence)

    def leave(self, sequence: Sequence) -> None:
        tenant = self._active[sequence.request.tenant]
        tenant.running -= 1
        self._settle(tenant, sequence)

    def charge(self, sequence: Sequence, cost: float) -> None:
        tenant = self._active[sequence.request.tenant]
        tenant.counter += cost / tenant.weight

    def _enter(self, sequence: Sequence) -> _Tenant:
        name = sequence.request.tenant
        tenant = self._active.get(name)
        if tenant is None:
            tenant = self._active[name] = self._idle.pop(name, _Tenant())
        if tenant not in self._backlogged:
            tenant.counter = max(tenant.counter, self._level())
            self._backlogged[tenant] = None
        self._length += 1
        return tenant

    def _level(self) -> float:
        """The lowest counter of the backlogged; with none, that of the last to be so."""
        counters = (tenant.counter for tenant in self._backlogged)
        return min(counters, default=self._last_to_leave.counter)

    def _took(self, tenant: _Tenant, sequence: Sequence) -> None:
        self._length -= 1
        if not tenant.waiting and not tenant.passed:
            del self._backlogged[tenant]
            self._last_to_leave = tenant
        self._settle(tenant, sequence)

    def _settle(self, tenant: _Tenant, sequence: Sequence) -> None:
        """Note whether the tenant has become idle, and forget old ones once they are many."""
        if tenant.running or tenant in self._backlogged:
            return
        name = sequence.request.tenant
        self._idle[name] = self._active.pop(name)
        if len(self._idle) > 2 * IDLE_KEPT:
            level = self._level()
            ahead = [item for item in self._idle.items() if item[1].counter > level]
            # Beyond the limit, the smallest leads are forgiven.
            self._idle = dict(sorted(ahead, key=lambda item: item[1].counter)[-IDLE_KEPT:])
