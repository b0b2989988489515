"""One stretch of time, watched: the victim asks, a probe looks at `/readyz`, memory and stalls are noted."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import psutil

from tests.abuse.figures import Phase, counted
from tests.abuse.replicas import MIB, Replicas
from tests.abuse.scene import Scene
from tests.abuse.victim import Victim

PROBE_EVERY_SECONDS = 0.25
PROBE_PATIENCE_SECONDS = 5.0
MEMORY_EVERY_SECONDS = 0.2
# An attack that takes more is ended before it takes the machine: its row fails.
MOST_GROWTH_MIB = 3_000.0
LEAST_FREE_MIB = 1_000.0


@dataclass
class Watch:
    """What is seen beside the victim. `alarm` is called once, with a reason, when memory runs out."""

    replicas: Replicas
    alarm: Callable[[str], Awaitable[None]] | None = None
    probes: int = 0
    reds: int = 0
    slowest_probe: float = 0.0
    memory_mib: float = 0.0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self) -> None:
        self.tasks = [asyncio.create_task(self._measure())]
        self.tasks += [asyncio.create_task(self._probe(url)) for url in self.replicas.urls]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _probe(self, url: str) -> None:
        async with httpx.AsyncClient(timeout=PROBE_PATIENCE_SECONDS) as http:
            while True:
                begun = time.perf_counter()
                try:
                    green = (await http.get(f"{url}/readyz")).status_code == 200
                except httpx.HTTPError:
                    green = False
                self.probes += 1
                self.reds += not green
                self.slowest_probe = max(self.slowest_probe, time.perf_counter() - begun)
                await asyncio.sleep(PROBE_EVERY_SECONDS)

    async def _measure(self) -> None:
        first = self.replicas.memory_mib
        while True:
            now = self.replicas.memory_mib
            self.memory_mib = max(self.memory_mib, now)
            free = psutil.virtual_memory().available / MIB
            if self.alarm is not None and (now - first > MOST_GROWTH_MIB or free < LEAST_FREE_MIB):
                alarm, self.alarm = self.alarm, None
                await alarm(f"{now - first:.0f} MiB grown, {free:.0f} MiB free")
            await asyncio.sleep(MEMORY_EVERY_SECONDS)


async def watch(
    scene: Scene,
    replicas: Replicas,
    seconds: float,
    alarm: Callable[[str], Awaitable[None]] | None = None,
) -> Phase:
    """Let the victim ask for so long, and tell how it fared."""
    victim = Victim(scene)
    watching = Watch(replicas, alarm)
    begun = time.time()
    watching.begin()
    try:
        await victim.ask(seconds)
    finally:
        await watching.end()
    return Phase(
        latencies=victim.latencies,
        outcomes=counted(victim.outcomes),
        probes=watching.probes,
        reds=watching.reds,
        slowest_probe_ms=watching.slowest_probe * 1000,
        memory_mib=watching.memory_mib,
        stall_ms=replicas.longest_stall(begun, time.time()) * 1000,
    )
