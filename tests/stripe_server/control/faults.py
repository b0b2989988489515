"""What goes wrong with requests."""

from tests.stripe_server.control.loop import Ordered, awaited, on_loop
from tests.stripe_server.wire.faults import Fault, FaultKind


class FaultOrders(Ordered):
    @on_loop
    def fail(
        self,
        kind: FaultKind,
        *,
        method: str = "*",
        path: str = "*",
        times: int = 1,
        skip: int = 0,
        retry_after: int = 1,
    ) -> None:
        """Let the next `times` requests that fit, after `skip` others, meet a fault."""
        self.api.faults.put(Fault(kind, method, path, times, skip, retry_after))

    @on_loop
    def resume(self) -> None:
        """Let go all requests that hang."""
        self.api.faults.resume()

    @on_loop
    def clear_faults(self) -> None:
        """Forget what was ordered of requests and of banks, and let go what hangs."""
        self.api.faults.clear()
        self.world.verdicts.clear()

    @awaited
    async def hanging(self) -> None:
        """Wait until a request hangs."""
        await self.api.faults.until_hanging()

    def wait_until_hanging(self) -> None:
        """The same where no loop runs."""
        self.submit(self.api.faults.until_hanging()).result()
