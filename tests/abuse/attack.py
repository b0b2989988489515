"""One attacker at work, as a process of its own: `python -m tests.abuse.attack NAME SECONDS`.

It reads the scene as JSON, says when it is ready, and writes what it was told, how often. It yields to the
servers and the victim: real attackers have machines of their own.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter

import msgspec

from tests.abuse.attackers import ATTACKERS
from tests.abuse.attackers.tools import Attack, Attacker
from tests.abuse.parent import end_with_parent
from tests.abuse.scene import Scene

NICENESS = 10
MOST_ROUNDS = 200_000


async def run(attacker: Attacker, scene: Scene, seconds: float) -> Counter[str]:
    """Let each of the attacker's connections do its round again and again; what they were told."""
    deadline = time.monotonic() + seconds
    async with Attack(scene) as attack:

        async def repeat(place: int) -> None:
            while time.monotonic() < deadline and attack.rounds < MOST_ROUNDS:
                attack.rounds += 1
                try:
                    await attacker.round(attack, place)
                except (OSError, EOFError) as error:
                    attack.told[type(error).__name__] += 1
                    await asyncio.sleep(0.01)

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        working = [asyncio.create_task(repeat(place)) for place in range(attacker.connections)]
        done, late = await asyncio.wait(working, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        attack.told["under way at the end"] += len(late)
        for task in done:
            task.result()
        return +attack.told


def main() -> None:
    end_with_parent()
    # Ctrl-C reaches the whole group; the parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    name, seconds = sys.argv[1], float(sys.argv[2])
    scene = msgspec.json.decode(sys.stdin.buffer.read(), type=Scene)
    told = asyncio.run(run(ATTACKERS[name], scene, seconds))
    sys.stdout.buffer.write(msgspec.json.encode(dict(told.most_common())))


if __name__ == "__main__":
    main()
