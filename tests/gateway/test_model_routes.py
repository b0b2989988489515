"""`/v1/models`, which every client asks first."""

from contextlib import AsyncExitStack

import httpx
import pytest

from farebox.core.database import Database
from tests.gateway.servers import RunningServer


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny"])
async def test_models_are_told_while_reports_have_every_connection(
    path: str, server: RunningServer, http: httpx.AsyncClient
) -> None:
    database: Database = server.app.state.database
    reports = AsyncExitStack()

    async def report() -> None:
        for _ in range(server.app.state.settings.database_pool_size):
            await reports.enter_async_context(database.transaction())

    try:
        await server.call(report)
        answer = await http.get(path)
    finally:
        await server.call(reports.aclose)
    assert answer.status_code == 200
    assert '"output_per_million":"2.00"' in answer.text
