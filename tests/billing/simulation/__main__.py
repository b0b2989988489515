"""`make simulate`: as many steps of the money's life as one likes, from one seed or from many.

A seed that fails fails again: `make simulate SIMULATE="--seed 7 --steps 20000"`.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

import structlog

from farebox.core.postgres.embedded import EmbeddedPostgres
from tests.billing.simulation.life import live
from tests.billing.simulation.world import World
from tests.conftest import migrate

STEPS_OF_A_SEED = 5_000


async def simulate(url: str, directory: Path, seed: int, steps: int) -> None:
    """Seeds one after the other, each in a world of its own, until all steps are done."""
    began, done = time.monotonic(), 0
    while done < steps:
        part = min(STEPS_OF_A_SEED, steps - done)
        async with World.open(seed, url, directory / str(seed)) as world:
            await live(world, part)
        done += part
        sys.stdout.write(f"seed {seed}: {part:,} steps; {done:,} in {time.monotonic() - began:,.0f} s\n")
        sys.stdout.flush()
        seed += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as name, EmbeddedPostgres(Path(name) / "data") as server:
        migrate(server.url)
        asyncio.run(simulate(server.url, Path(name), asked.seed, asked.steps))


if __name__ == "__main__":
    main()
