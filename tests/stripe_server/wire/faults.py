"""What can go wrong between a request and its answer, on demand.

Faults before the work leave nothing behind; those after it lose or spoil the answer of work that is done.
"""

import asyncio
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from tests.stripe_server.wire.errors import StripeError

Before = Literal["server_error", "rate_limit", "conflict", "hang", "drop"]
After = Literal["server_error_after", "lost_answer", "hang_after"]
FaultKind = Literal[Before, After]


@dataclass(eq=False)
class Fault:
    """`times` requests are left for it. `path` is a pattern such as `/v1/checkout/*`."""

    kind: FaultKind
    method: str = "*"
    path: str = "*"
    times: int = 1
    skip: int = 0
    retry_after: int = 1
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def after_the_work(self) -> bool:
        return self.kind in get_args(After)

    def fits(self, method: str, path: str) -> bool:
        return fnmatchcase(method, self.method.upper()) and fnmatchcase(path, self.path)


class Dropped(Exception):
    """The connection ends without an answer."""


class Faults:
    def __init__(self) -> None:
        self.pending: list[Fault] = []
        self.hanging: list[Fault] = []
        self._hangs = asyncio.Event()

    def put(self, fault: Fault) -> None:
        self.pending.append(fault)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, if any: the first that fits and skips no more."""
        for fault in self.pending:
            if fault.fits(method, path):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if fault.times == 0:
                    self.pending.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        """Forget what has not happened yet, and let go what hangs."""
        self.pending.clear()
        self.resume()

    def resume(self) -> None:
        for fault in self.hanging:
            fault.over.set()
        self.hanging.clear()
        self._hangs.clear()

    async def until_hanging(self) -> None:
        await self._hangs.wait()

    async def hang(self, fault: Fault, gone: asyncio.Future[None]) -> None:
        """Wait for `resume`. Raises Dropped if the client gives up first."""
        self.hanging.append(fault)
        self._hangs.set()
        over = asyncio.create_task(fault.over.wait())
        waits: set[asyncio.Future[Any]] = {over, gone}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            over.cancel()
            raise Dropped


def raise_fault(fault: Fault) -> None:
    """What a fault that is an answer is answered with."""
    match fault.kind:
        case "server_error" | "server_error_after":
            raise StripeError(500, "An unknown error occurred", type="api_error")
        case "rate_limit":
            raise StripeError(
                429,
                "Too many requests in a period of time.",
                code="rate_limit",
                headers={"Retry-After": str(fault.retry_after), "Stripe-Rate-Limited-Reason": "global-rate"},
            )
        case "conflict":
            message = "This object cannot be accessed right now because another request is using it."
            raise StripeError(409, message, code="lock_timeout")
        case "drop" | "lost_answer":
            raise Dropped
        case "hang" | "hang_after":
            return
