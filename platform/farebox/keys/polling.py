"""Taking up what other processes have changed in Postgres, by asking again and again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from farebox.core.errors import Unavailable
from farebox.core.settings import SettingsError

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def repeated(
    refresh: Callable[[], Awaitable[None]], every_seconds: float, *, name: str
) -> AsyncIterator[None]:
    """Refresh in the background while the context is open."""
    task = asyncio.create_task(_repeat(refresh, every_seconds), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(refresh: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await refresh()
        except (Unavailable, SettingsError) as error:
            # What is known so far stays in use: without Postgres no row authorises anyway.
            _log.warning("keyring.refresh_failed", reason=str(error))
