"""An account without a past."""

import pytest

from farebox.core.database import Database
from tests.billing.exports.history import History
from tests.metering.factories import open_account


@pytest.fixture
async def history(database: Database) -> History:
    return History(database, await open_account(database, balance="0"))
