"""What the inference routes of one process work with."""

from dataclasses import dataclass, field

from farebox.core.fair_threads import FairThreads
from farebox.gateway.gate.gate import Gate
from farebox.gateway.live_runs import Runs
from farebox.gateway.models.catalog import Catalog
from farebox.metering.meter import Meter

# A body of so many bytes is tokenised in a tenth of a second.
LONG_BODY_BYTES = 131_072


@dataclass(slots=True)
class Gateway:
    """Opened by the application's lifespan, found by the routes in `app.state.gateway`."""

    gate: Gate
    meter: Meter
    catalog: Catalog
    runs: Runs
    # Bounds an answer for which the request names no limit.
    default_tokens: int
    # Bodies are decoded here, and prompts tokenised.
    readers: FairThreads = field(default_factory=lambda: FairThreads("read"))
    # Those of long bodies apart, one at a time: a megabyte takes half a second and 200 MiB.
    long_readers: FairThreads = field(default_factory=lambda: FairThreads("read-long", threads=1))
    # Apart from the readers: a grammar can take a second.
    compilers: FairThreads = field(default_factory=lambda: FairThreads("compile"))
    # Apart from both: what is written here is paid for.
    writers: FairThreads = field(default_factory=lambda: FairThreads("write"))

    def readers_of(self, body_bytes: int) -> FairThreads:
        """Where the prompts of a body are tokenised."""
        return self.long_readers if body_bytes > LONG_BODY_BYTES else self.readers
