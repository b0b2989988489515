"""Ten thousand steps of the money's life, from five seeds. `make simulate` goes on for a million."""

from pathlib import Path

import pytest

from tests.billing.simulation.life import WEIGHTS, live
from tests.billing.simulation.world import World


@pytest.mark.parametrize("seed", range(5), ids=lambda seed: f"seed-{seed}")
async def test_the_books_close_after_every_step(database_url: str, tmp_path: Path, seed: int) -> None:
    async with World.open(seed, database_url, tmp_path) as world:
        done = await live(world, 2_000)
    assert done.keys() == {deed.__name__ for deed in WEIGHTS}
