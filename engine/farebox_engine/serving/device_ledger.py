"""Whose time it was: the device's busy time, split among requests and the operator."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from itertools import accumulate
from typing import Protocol


class Account(Protocol):
    """Whoever pays for time on the device, in nanoseconds: a request."""

    device_ns: int


class DeviceLedger:
    """Books the device's busy time, all of it and the operator's part; the rest is on requests' accounts.

    In whole nanoseconds: what accounts and operator are charged sums to the busy time exactly. Work done
    a second time, after a preemption or a failure, and work whose result is thrown away are the
    operator's: no tenant asked for it.
    """

    def __init__(self) -> None:
        self.busy_ns = 0
        self.operator_ns = 0

    def split(self, busy_ns: int, costs: Seq[float]) -> list[int]:
        """Book a step that took `busy_ns`; its shares in proportion to `costs`, to be charged to somebody.

        `costs` are at least 0, and not all 0. The shares sum to `busy_ns`.
        """
        self.busy_ns += busy_ns
        sums = list(accumulate(costs))
        total = sums[-1]
        # Running sums are rounded, not shares: the last is the whole, so nothing remains.
        bounds = [round(busy_ns * (each / total)) for each in sums]
        return [after - before for before, after in zip([0, *bounds], bounds, strict=False)]

    def write_off(self, busy_ns: int) -> None:
        """Book the time of a failed attempt, which is the operator's."""
        self.busy_ns += busy_ns
        self.operator_ns += busy_ns

    def charge_operator(self, share_ns: int) -> None:
        """Charge the operator a share of a step."""
        self.operator_ns += share_ns

    def forgive(self, account: Account) -> None:
        """Pass what a request was charged on to the operator."""
        self.operator_ns += account.device_ns
        account.device_ns = 0
