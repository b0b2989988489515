"""`farebox reconcile` ends with 1 for any difference, and names it."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.metering.seals.sealing import seal_hours
from tests.cli.commands import Farebox, shell
from tests.cli.conftest import MakeDatabase
from tests.conftest import migrate
from tests.metering.seals.sealed_books import Customer


@pytest.fixture(scope="module")
async def books_url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture(scope="module")
def books(books_url: str, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    migrate(books_url)
    return shell(tmp_path_factory.mktemp("books"), books_url)


async def test_differences_are_named_and_tell_by_the_exit_status(books: Farebox, books_url: str) -> None:
    before = books.json("reconcile")
    assert (before["differences"], {each["count"] for each in before["findings"]}) == (0, {0})
    database = Database(books_url)
    customer = Customer(database)
    await customer.use(datetime(2025, 3, 1, tzinfo=UTC))
    assert await seal_hours(database) > 0
    async with database.meter_transaction() as session:
        await session.execute(text("UPDATE usage_hour SET requests = requests + 1"))
    told = books.run("reconcile")
    assert told.status == 1
    assert "hours: 1 difference\n" in told.out
    assert f"organization_id {customer.organization_id.hex}" in told.out
    assert "seals: no differences" in told.out
    months = {each: books.run("reconcile", "--month", each).status for each in ("2025-02", "2025-03")}
    assert months == {"2025-02": 0, "2025-03": 1}
    assert books.run("reconcile", "--organization", f"org_{'0' * 32}").status == 0
    await database.close()
