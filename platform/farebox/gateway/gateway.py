"""What the inference routes of one process work with."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID
from weakref import WeakValueDictionary

from farebox.core.database import Database
from farebox.gateway.live_runs import Runs
from farebox.gateway.models.catalog import Catalog
from farebox.metering.meter import Meter


@dataclass(slots=True)
class Gateway:
    """Opened by the application's lifespan, found by the routes in `app.state.gateway`.

    `default_tokens` bounds answers for which the request names no limit. `compiling` holds
    a lock for each organization whose grammars are being compiled.
    """

    database: Database
    meter: Meter
    catalog: Catalog
    runs: Runs
    default_tokens: int
    tokenizers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenize")
    )
    # Apart from the tokenizers: a grammar can take a second.
    compilers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
    )
    compiling: "WeakValueDictionary[UUID, asyncio.Lock]" = field(default_factory=WeakValueDictionary)
