"""Where the chaos happens: one Postgres, servers on it, tenants with clients."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.keys.tokens import Keyring
from farebox.metering.admission import LEASE
from tests.chaos.load import Client, Load
from tests.chaos.processes import Postgres, Server
from tests.tenants.factories import Tenant, make_key, make_tenant

# A lease lasts 10 s and is looked at once a second; after a start of Postgres, 10 s more are waited.
# The limit only keeps a broken test from hanging.
RELEASE_SECONDS = 60.0
LOOK_SECONDS = 0.02
# With this, a stream that its client does not read comes to a halt at once.
SEND_BUFFER_BYTES = 32_768


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

    def server(self, send_buffer: int | None = None) -> Server:
        """One more server, with port and spool of its own, not yet started; stopped when the test ends."""
        server = make_server(self.settings, self.directory, send_buffer)
        self.stack.push_async_callback(server.close)
        return server

    async def tenant(self, balance: Decimal) -> Tenant:
        tenant = await make_tenant(self.database, self.keyring, balance=balance)
        self.tenants[tenant.organization_id] = balance
        return tenant

    async def client(self, server: Server, tenant: Tenant) -> Client:
        """A client of that server with a key of its own."""
        (client,) = await self.clients([server], tenant)
        return client

    async def clients(self, servers: Sequence[Server], tenant: Tenant) -> list[Client]:
        """A client of each server, all with one new key."""
        minted = await make_key(self.database, self.keyring, tenant)
        clients = [Client(server.url, minted.row.id, minted.token) for server in servers]
        for client in clients:
            await self.stack.enter_async_context(client)
        return clients

    async def populate(
        self, load: Load, servers: Sequence[Server], *, tenants: int, clients: int, seed: int
    ) -> None:
        """Put clients of several new tenants to work, each with all of the servers."""
        for number in range(tenants):
            tenant = await self.tenant(Decimal(100))
            for place in range(clients):
                load.add(await self.clients(servers, tenant), seed * 1000 + number * 100 + place)

    async def all_released(self) -> None:
        """Return once no hold is left, by whatever way, nor an answer on its way. Raises TimeoutError."""
        await self._until("SELECT count(*) = 0 FROM hold WHERE organization_id = ANY (:ids)")
        await self._until(
            "SELECT count(*) = 0 FROM handover JOIN usage_event USING (request_id)"
            " WHERE organization_id = ANY (:ids)"
        )

    async def until_leases_ran_out(self) -> None:
        """Return once every lease given up to now has run out, unless renewed, and been swept. Raises
        TimeoutError."""
        async with self.database.meter_transaction() as session:
            moment = await session.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
        await self._until(
            "SELECT extract(epoch FROM clock_timestamp()) - CAST(:moment AS numeric) > :lease"
            " AND NOT EXISTS (SELECT FROM hold WHERE lease_expires_at < clock_timestamp())"
            " AND NOT EXISTS (SELECT FROM handover WHERE lease_expires_at < clock_timestamp())",
            moment=moment,
            lease=LEASE.total_seconds(),
        )

    @asynccontextmanager
    async def locked(self, organization_id: UUID) -> AsyncIterator[None]:
        """Somebody holds the organization's row in `meter_scope`, and does not let go."""
        blocker = await asyncpg.connect(self.postgres.url)
        try:
            async with blocker.transaction():
                await blocker.execute("SELECT FROM meter_scope WHERE id = $1 FOR UPDATE", organization_id)
                yield
        finally:
            await blocker.close()

    async def until_held(self, count: int) -> None:
        """Return once as many requests, or more, hold a reservation. Raises TimeoutError."""
        await self._until(
            "SELECT count(*) >= :count FROM hold WHERE organization_id = ANY (:ids)", count=count
        )

    async def until_recorded(self) -> None:
        """Return once a checkpoint has told of output of a stream under way. Raises TimeoutError."""
        await self._until("SELECT max(output_tokens) > 0 FROM hold WHERE organization_id = ANY (:ids)")

    async def until_halted(self) -> None:
        """Return once two checkpoints in a row have told of the same output: of a stream that nobody reads.

        There may be no other. Raises TimeoutError.
        """
        query = text("SELECT lease_expires_at, output_tokens FROM hold WHERE organization_id = ANY (:ids)")
        lease, output = None, 0
        async with asyncio.timeout(RELEASE_SECONDS):
            while True:
                async with self.database.meter_transaction() as session:
                    rows = (await session.execute(query, {"ids": list(self.tenants)})).all()
                for hold in rows:
                    if hold.lease_expires_at != lease and hold.output_tokens == output > 0:
                        return
                    lease, output = hold.lease_expires_at, hold.output_tokens
                await asyncio.sleep(LOOK_SECONDS)

    async def _until(self, condition: str, **parameters: Any) -> None:
        """Wait for what other processes do to the tenants' holds."""
        query = text(condition)
        async with asyncio.timeout(RELEASE_SECONDS):
            while True:
                async with self.database.meter_transaction() as session:
                    if await session.scalar(query, {"ids": list(self.tenants)} | parameters):
                        return
                await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def open_stage(postgres: Postgres, settings: Settings, directory: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        database = Database(postgres.url)
        stack.push_async_callback(database.close)
        keyring = await Keyring.load(database, settings)
        yield Stage(postgres, database, keyring, settings, directory, stack)


def make_server(settings: Settings, directory: Path, send_buffer: int | None = None) -> Server:
    """A server with port, data and log of its own in `directory`, not yet started."""
    port = _free_port()
    own = msgspec.structs.replace(settings, port=port, data=str(directory / str(port)))
    return Server(own, directory / f"{port}.log", send_buffer)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
