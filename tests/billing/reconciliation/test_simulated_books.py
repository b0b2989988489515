"""After a stretch of the money's life, with tiers, plans, faults and expiries, all books agree."""

from pathlib import Path

from farebox.billing.reconciliation.books import Difference
from farebox.billing.reconciliation.reconcile import reconcile
from tests.billing.simulation.life import live
from tests.billing.simulation.world import World


async def test_the_books_of_a_simulated_life_agree(database_url: str, tmp_path: Path) -> None:
    differences: list[Difference] = []
    async with World.open(7, database_url, tmp_path) as world:
        await live(world, 600)
        for customer in world.customers:
            done = await reconcile(world.database, customer.organization_id)
            differences += [each for finding in done.findings for each in finding.differences]
    assert differences == []
