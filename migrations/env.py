"""Alembic's entry: migrations run as the tables' owner, never as an application role."""

import asyncio
import os
import re

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from farebox.auth import models as auth
from farebox.billing import models as billing
from farebox.billing import models_stripe as billing_stripe
from farebox.billing.exports import models as exports
from farebox.billing.invoices import models as invoices
from farebox.core import outbox
from farebox.core.database import Model
from farebox.keys import models as keys
from farebox.limits import models as limits
from farebox.metering import models as metering
from farebox.tenants import models as tenants

PARTITION = re.compile(r"usage_event_(\d{4}_\d{2}|rest)")

# Importing the domains' models is what fills the metadata.
DOMAINS = (outbox, tenants, auth, keys, limits, metering, billing, billing_stripe, invoices, exports)


def include_name(
    name: str | None,
    type_: str,
    _parents: object,
) -> bool:
    """Partitions are made by `farebox migrate` month by month; no model describes them."""
    return not (type_ == "table" and name is not None and PARTITION.fullmatch(name))


def migrate(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        dialect_name=None if connection else "postgresql",
        target_metadata=Model.metadata,
        include_name=include_name,
        compare_type=True,
        literal_binds=connection is None,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    migrate(None)
elif existing := context.config.attributes.get("connection"):
    migrate(existing)
else:
    url = context.config.attributes.get("url") or os.environ["FAREBOX_DATABASE_URL"]
    asyncio.run(migrate_online(url))
