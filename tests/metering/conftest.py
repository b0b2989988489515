from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.conftest import migrate
from tests.metering.outages import Outage


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(
        default_requests_per_minute=1_000_000,
        default_tokens_per_minute=1_000_000_000,
        default_concurrent_requests=1_000,
    )


@pytest.fixture
async def meter(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    meter = await Meter.open(settings, database_url, tmp_path, sweep_grace=timedelta())
    yield meter
    await meter.close()


@pytest.fixture
def outage(tmp_path: Path) -> Outage:
    outage = Outage(tmp_path / "pg")
    migrate(outage.server.url)
    return outage
