"""Which tenant is next: fair shares by the service that each was given.

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
from typing import Generic, TypeVar

IDLE_KEPT = 1024
_LOOKAHEAD = 16

TenantName = bytes | str
Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class _Tenant(Generic[Item]):
    """What one tenant has. `passed` are waiting, but not to be taken in this step."""

    weight: float = 1.0
    counter: float = 0.0
    waiting: deque[Item] = field(default_factory=deque)
    passed: deque[Item] = field(default_factory=deque)
    running: int = 0


class FairShares(Generic[Item]):
    """The waiting items of tenants, and the tenants' counters. With one tenant: first come, first served.

    A tenant is active while it has an item waiting or running. Of idle ones only the
    counters that still matter are kept, the highest `IDLE_KEPT` at least: one below the
    lowest backlogged counter would be lifted to it anyway.
    """

    def __init__(self) -> None:
        self._active: dict[TenantName, _Tenant[Item]] = {}
        self._idle: dict[TenantName, _Tenant[Item]] = {}
        # In the order of becoming backlogged, which breaks ties.
        self._backlogged: dict[_Tenant[Item], None] = {}
        self._touched: dict[_Tenant[Item], None] = {}
        self._last_to_leave: _Tenant[Item] = _Tenant()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def tenants(self) -> int:
        """How many counters are kept, those of idle tenants included."""
        return len(self._active) + len(self._idle)

    def holds(self, name: TenantName, item: Item) -> bool:
        """Whether the tenant's `item` waits."""
        tenant = self._active.get(name)
        return tenant is not None and item in tenant.waiting

    def push(self, name: TenantName, item: Item, weight: float = 1.0) -> None:
        """Add an arrival; from now on the tenant has this weight."""
        tenant = self._enter(name)
        tenant.weight = weight
        tenant.waiting.append(item)

    def push_first(self, name: TenantName, item: Item) -> None:
        """Put an item before the tenant's others."""
        self._enter(name).waiting.appendleft(item)

    def peek(self) -> Item | None:
        """The item to admit next."""
        ready = [tenant for tenant in self._backlogged if tenant.waiting and len(tenant.passed) < _LOOKAHEAD]
        if not ready:
            return None
        return min(ready, key=lambda tenant: tenant.counter).waiting[0]

    def admit(self, name: TenantName) -> None:
        """Take out the tenant's first item, which runs from now on until the tenant is told to `leave`."""
        tenant = self._active[name]
        tenant.waiting.popleft()
        tenant.running += 1
        self._took(name, tenant)

    def leave(self, name: TenantName) -> None:
        """Note that an admitted item has ended, or waits again."""
        tenant = self._active[name]
        tenant.running -= 1
        self._settle(name, tenant)

    def charge(self, name: TenantName, cost: float) -> None:
        """Charge an active tenant for service."""
        tenant = self._active[name]
        tenant.counter += cost / tenant.weight

    def remove(self, name: TenantName, item: Item) -> None:
        """Take out a waiting item for good."""
        tenant = self._active[name]
        tenant.waiting.remove(item)
        self._took(name, tenant)

    def pass_over(self, name: TenantName) -> None:
        """Let others go before the tenant's first item, until `restore`."""
        tenant = self._active[name]
        tenant.passed.append(tenant.waiting.popleft())
        self._touched[tenant] = None

    def restore(self) -> None:
        """Put those passed over back to where they were."""
        for tenant in self._touched:
            tenant.waiting.extendleft(reversed(tenant.passed))
            tenant.passed.clear()
        self._touched.clear()

    def _enter(self, name: TenantName) -> _Tenant[Item]:
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

    def _took(self, name: TenantName, tenant: _Tenant[Item]) -> None:
        self._length -= 1
        if not tenant.waiting and not tenant.passed:
            del self._backlogged[tenant]
            self._last_to_leave = tenant
        self._settle(name, tenant)

    def _settle(self, name: TenantName, tenant: _Tenant[Item]) -> None:
        """Note whether the tenant has become idle, and forget old ones once they are many."""
        if tenant.running or tenant in self._backlogged:
            return
        self._idle[name] = self._active.pop(name)
        if len(self._idle) > 2 * IDLE_KEPT:
            level = self._level()
            ahead = [item for item in self._idle.items() if item[1].counter > level]
            # Beyond the limit, the smallest leads are forgiven.
            self._idle = dict(sorted(ahead, key=lambda item: item[1].counter)[-IDLE_KEPT:])
