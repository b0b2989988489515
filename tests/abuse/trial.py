"""One row of the table: quiet, then under attack, on the same servers."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tests.abuse.attackers.tools import Attacker
from tests.abuse.figures import Row
from tests.abuse.replicas import Replicas
from tests.abuse.scene import Scene
from tests.abuse.victim import Victim
from tests.abuse.watch import watch

# An attacker begins this long before the victim is looked at, and may finish a round this long after.
LEAD_SECONDS = 1.0
GRACE_SECONDS = 2.0


class Attacking:
    """An attacker's process. `stopped` says why it was ended early, if it was."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
        self._process = process
        self._reading = asyncio.create_task(output.read())
        self.stopped = ""

    async def told(self, patience: float) -> dict[str, int]:
        """What it was told how often; wait so many seconds for it to end, then end it."""
        done, _ = await asyncio.wait((self._reading,), timeout=patience)
        if not done:
            self.end()
        output = await self._reading
        await self._process.wait()
        return msgspec.json.decode(output, type=dict[str, int]) if output else {"ended": 1}

    async def stop(self, reason: str) -> None:
        self.stopped = reason
        self.end()

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


@asynccontextmanager
async def attacking(attacker: Attacker, scene: Scene, seconds: float) -> AsyncIterator[Attacking]:
    """The attacker at work for so long, in a process of its own; ended on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.abuse.attack",
        attacker.name,
        str(seconds),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("The attacker was started without pipes.")
    process.stdin.write(msgspec.json.encode(scene))
    process.stdin.close()
    # It says when it is ready: starting Python takes a second or more.
    try:
        if await process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"The attacker {attacker.name} did not start.")
        yield Attacking(process, process.stdout)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _at_rest(scene: Scene, replicas: Replicas) -> Scene:
    """The scene with servers that work for nobody and serve the victim; new ones, if they do not.

    Raises RuntimeError when new ones do not serve either.
    """
    for _ in range(2):
        scene = msgspec.structs.replace(scene, urls=replicas.urls)
        calm, _ = await replicas.calm_down()
        if calm and await Victim(scene).is_served():
            return scene
        await replicas.restart()
    raise RuntimeError("The victim is not served even in peace.")


async def try_attacker(attacker: Attacker, scene: Scene, replicas: Replicas, seconds: float) -> Row:
    """Quiet for so long, attacked for so long. Servers that do not come to rest before are replaced."""
    scene = await _at_rest(scene, replicas)
    quiet = await watch(scene, replicas, seconds)
    seconds = max(seconds, attacker.least_seconds)
    async with attacking(attacker, scene, LEAD_SECONDS + seconds) as attack:
        await asyncio.sleep(LEAD_SECONDS)
        attacked = await watch(scene, replicas, seconds, attack.stop)
        told = await attack.told(seconds + GRACE_SECONDS)
    # What it left to be done takes its memory after it has gone.
    calm, memory_mib = await replicas.calm_down()
    attacked = msgspec.structs.replace(attacked, memory_mib=max(memory_mib, attacked.memory_mib))
    row = Row(
        attacker=attacker.name,
        replicas=len(replicas.urls),
        quiet=quiet,
        attacked=attacked,
        told=told,
        stopped=attack.stopped,
        restless=not calm,
    )
    if "memory" in row.faults or row.stopped or row.restless:
        # What was taken and not given back would hide what the next one takes.
        await replicas.restart()
    return row
