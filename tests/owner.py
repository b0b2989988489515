"""The database as its owner's, whom no policy holds: to arrange and to see what the roles may not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from farebox.core.database import Database


@asynccontextmanager
async def owner_transaction(database: Database) -> AsyncIterator[AsyncSession]:
    """Commits on a clean exit."""
    url = make_url(database.url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
        yield session
    await engine.dispose()
