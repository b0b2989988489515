"""Where the chaos happens: one Postgres, servers on it, tenants with clients."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.keys.tokens import Keyring
from tests.chaos.load import Client, Load
from tests.chaos.processes import Postgres, Server
from tests.tenants.factories import Tenant, make_key, make_tenant

# A lease lasts 10 s and is looked at once a second; after a start of Postgres, 10 s more are waited.
RELEASE_SECONDS = 30.0
LOOK_SECONDS = 0.02


@dataclass
class Stage:
    """`tenants` are those made by the present test, with what each was funded."""

    postgres: Postgres
    database: Database
    keyring: Keyring
    settings: Settings
    directory: Path
    stack: AsyncExitStack
    tenants: dict[UUID, Decimal] = field(default_factory=dict)

    def server(self) -> Server:
        """One more server, with port and spool of its own, not yet started; stopped when the test ends."""
        port = _free_port()
        own = msgspec.structs.replace(self.settings, port=port, data=str(self.directory / str(port)))
        server = Server(own, self.directory / f"{port}.log")
        self.stack.push_async_callback(server.stop)
        return server

    async def tenant(self, balance: Decimal) -> Tenant:
        tenant = await make_tenant(self.database, self.keyring, balance=balance)
        self.tenants[tenant.organization_id] = balance
        return tenant

    async def client(self, server: Server, tenant: Tenant) -> Client:
        """A client of that server with a key of its own."""
        minted = await make_key(self.database, self.keyring, tenant)
        return await self.stack.enter_async_context(Client(server.url, minted.row.id, minted.token))

    async def populate(self, load: Load, server: Server, *, tenants: int, clients: int, seed: int) -> None:
        """Put clients of several new tenants to work."""
        for number in range(tenants):
            tenant = await self.tenant(Decimal(100))
            for place in range(clients):
                load.add(await self.client(server, tenant), seed * 1000 + number * 100 + place)

    async def all_released(self) -> None:
        """Return once no hold is left, by whatever way. Raises TimeoutError."""
        await self.until_held(0)

    async def until_held(self, count: int) -> None:
        """Return once so many requests of the tenants hold a reservation. Raises TimeoutError."""
        async with asyncio.timeout(RELEASE_SECONDS):
            while await self._count_holds() != count:  # noqa: ASYNC110  another process makes and ends them
                await asyncio.sleep(LOOK_SECONDS)

    async def _count_holds(self) -> int:
        async with self.database.meter_transaction() as session:
            query = text("SELECT count(*) FROM hold WHERE organization_id = ANY (:ids)")
            count: int = await session.scalar(query, {"ids": list(self.tenants)}) or 0
            return count


@asynccontextmanager
async def open_stage(postgres: Postgres, settings: Settings, directory: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        database = Database(postgres.url)
        stack.push_async_callback(database.close)
        keyring = await Keyring.load(database, settings)
        yield Stage(postgres, database, keyring, settings, directory, stack)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
