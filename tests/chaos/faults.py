"""What goes wrong: each a function that harms for a while, and mends, under a load that goes on."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.chaos.processes import Postgres, Server
from tests.chaos.stage import Stage
from tests.chaos.wire import Wire

LOCKED_SECONDS = 4.0
LONGEST_LIFE_SECONDS = 2.0
AWAY_SECONDS = 5.0
CUTS = 10


@dataclass(frozen=True)
class Outage:
    """A way for Postgres to go, and the way back from it. Both block."""

    harm: Callable[[Postgres], None]
    mend: Callable[[Postgres], None]


HUNG = Outage(Postgres.hang, Postgres.resume)
GONE = Outage(Postgres.shut_down, Postgres.start)
CRASHED = Outage(Postgres.kill, Postgres.start)
OUTAGES = (HUNG, GONE, CRASHED)


@dataclass
class Scene:
    """Two replicas, each behind a wire of its own, and what decides when what happens to them."""

    stage: Stage
    servers: Sequence[Server]
    wires: Sequence[Wire]
    rng: random.Random
    _turns: Iterator[Server] = field(init=False)

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.servers)

    @property
    def victim(self) -> Server:
        """They take turns."""
        return next(self._turns)

    def wire_of(self, server: Server) -> Wire:
        return self.wires[self.servers.index(server)]

    async def live_on(self, longest: float = LONGEST_LIFE_SECONDS) -> None:
        await asyncio.sleep(self.rng.uniform(0.2, longest))


Fault = Callable[[Scene], Awaitable[None]]


async def kill(scene: Scene) -> None:
    """kill -9, at any moment; the other serves."""
    server = scene.victim
    await scene.live_on()
    await server.kill()
    await server.start()


async def terminate(scene: Scene) -> None:
    """SIGTERM, and a start: an upgrade of one replica after the other."""
    server = scene.victim
    await scene.live_on()
    await server.stop()
    await server.start()


async def freeze(scene: Scene) -> None:
    """SIGSTOP for longer than a lease, while the other sweeps, and SIGCONT."""
    server = scene.victim
    await scene.live_on()
    async with server.stopped():
        await scene.stage.until_leases_ran_out()
    await scene.live_on()


async def lock(scene: Scene) -> None:
    """Somebody keeps one organization's row locked for seconds."""
    async with scene.stage.locked(scene.rng.choice(list(scene.stage.tenants))):
        await asyncio.sleep(LOCKED_SECONDS)
    await scene.live_on()


async def lock_and_kill(scene: Scene) -> None:
    """A server dies with settlements that wait for a lock; the next one starts before that is gone."""
    server = scene.victim
    async with scene.stage.locked(scene.rng.choice(list(scene.stage.tenants))):
        await scene.live_on()
        await server.kill()
        await server.start()
    await scene.live_on()


async def cut(scene: Scene) -> None:
    """The connections to Postgres break again and again, with a farewell and without."""
    for _ in range(CUTS):
        wire = scene.rng.choice(scene.wires)
        await (wire.cut() if scene.rng.random() < 0.5 else wire.say_farewell())
        await asyncio.sleep(scene.rng.uniform(0.05, 0.5))
    await scene.live_on()


async def lose_answers(scene: Scene) -> None:
    """What Postgres has committed is not heard of: the connection breaks before its answer."""
    await asyncio.gather(*(wire.lose_answers(scene.rng.randint(1, 4)) for wire in scene.wires))
    await scene.live_on()


async def lose_an_answer_and_kill(scene: Scene) -> None:
    """And then the server dies that has not heard of it."""
    server = scene.victim
    await scene.live_on()
    await scene.wire_of(server).lose_answers(1)
    await asyncio.sleep(scene.rng.choice((0.0, scene.rng.uniform(0.0, 1.5))))
    await server.kill()
    await server.start()


async def outage_and_kill(scene: Scene) -> None:
    """Postgres goes, a server dies, Postgres comes back, and the server too."""
    server, outage = scene.victim, scene.rng.choice(OUTAGES)
    await scene.live_on()
    await asyncio.to_thread(outage.harm, scene.stage.postgres)
    try:
        await scene.live_on(AWAY_SECONDS)
        await server.kill()
    finally:
        await asyncio.to_thread(outage.mend, scene.stage.postgres)
    await server.start()


async def outage_and_full_disk(scene: Scene) -> None:
    """Neither Postgres nor the disk takes what was used; one of them comes back first."""
    outage = scene.rng.choice(OUTAGES)
    await scene.live_on()
    with ExitStack() as room:
        for server in scene.servers:
            room.enter_context(server.full_disk())
        await asyncio.to_thread(outage.harm, scene.stage.postgres)
        try:
            await asyncio.sleep(AWAY_SECONDS)
            if scene.rng.random() < 0.5:
                room.close()
                await asyncio.sleep(AWAY_SECONDS)
        finally:
            await asyncio.to_thread(outage.mend, scene.stage.postgres)
        await scene.live_on()
