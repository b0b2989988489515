"""What the inference routes of one process work with."""

from dataclasses import dataclass, field

from farebox.core.fair_threads import FairThreads
from farebox.gateway.gate.gate import Gate
from farebox.gateway.live_runs import Runs
from farebox.gateway.models.catalog import Catalog
from farebox.metering.meter import Meter


@dataclass(slots=True)
class Gateway:
    """Opened by the application's lifespan, found by the routes in `app.state.gateway`."""

    gate: Gate
    meter: Meter
    catalog: Catalog
    runs: Runs
    # Bounds an answer for which the request names no limit.
    default_tokens: int
    # Bodies are decoded and prompts tokenised here.
    readers: FairThreads = field(default_factory=lambda: FairThreads("read"))
    # Apart from the readers: a grammar can take a second.
    compilers: FairThreads = field(default_factory=lambda: FairThreads("compile"))
    # Apart from both: what is written here is paid for.
    writers: FairThreads = field(default_factory=lambda: FairThreads("write"))
