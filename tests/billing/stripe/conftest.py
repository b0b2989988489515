"""One stand-in for Stripe and one server of ours, which hears its webhooks; a new customer for each test."""

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, update

from farebox.billing.models_stripe import AutoTopUp, StripeEvent, StripeSweep
from farebox.billing.stripe.account import Account
from farebox.billing.stripe.events.processing import TOLD
from farebox.core.database import Database
from farebox.core.outbox import OutboxItem
from farebox.core.settings import Settings
from farebox.keys.tokens import Keyring
from tests.billing.stripe.shop import Shop
from tests.core.mailbox import Mailbox
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.owner import owner_transaction
from tests.stripe_server.server import StripeServer
from tests.stripe_server.world.world import Settings as AccountSettings
from tests.tenants.factories import make_keyring, make_tenant

KEY = "sk_test_of_these_tests_alone"


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[StripeServer]:
    with StripeServer(settings=AccountSettings(api_key=KEY)) as server:
        yield server


@pytest.fixture(scope="session")
def site_port() -> int:
    """Stripe is told our address before we serve there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _destination(stripe_server: StripeServer, payload: str, names: list[str], port: int) -> Any:
    params: Any = {
        "name": f"Farebox {payload}",
        "type": "webhook_endpoint",
        "event_payload": payload,
        "enabled_events": names,
        "webhook_endpoint": {"url": f"http://127.0.0.1:{port}/webhooks/stripe"},
        "include": ["webhook_endpoint.signing_secret"],
    }
    if payload == "snapshot":
        params["snapshot_api_version"] = stripe_server.api_version
    return stripe_server.client().v2.core.event_destinations.create(params)


@pytest.fixture(scope="session")
def destinations(stripe_server: StripeServer, site_port: int) -> dict[str, Any]:
    """Thin events, as they are recommended; snapshots of a few of them, at a destination that rests."""
    names = [name.removeprefix("v1.") for name in TOLD]
    snapshot = _destination(stripe_server, "snapshot", names, site_port)
    stripe_server.client().v2.core.event_destinations.disable(snapshot.id)
    return {"thin": _destination(stripe_server, "thin", [*TOLD], site_port), "snapshot": snapshot}


@pytest.fixture(scope="session")
def shop_settings(
    stripe_server: StripeServer,
    destinations: dict[str, Any],
    site_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    return make_settings(
        tmp_path_factory.mktemp("shop"),
        base_url=f"http://127.0.0.1:{site_port}",
        stripe_api_key=KEY,
        stripe_base_url=stripe_server.url,
        stripe_webhook_secret=destinations["thin"].webhook_endpoint.signing_secret,
        stripe_snapshot_secret=destinations["snapshot"].webhook_endpoint.signing_secret,
    )


@pytest.fixture(scope="session")
def site(shop_settings: Settings, database_url: str, site_port: int) -> Iterator[RunningServer]:
    thread = ServerThread(shop_settings, database_url, port=site_port)
    yield thread.start()
    thread.stop()


@pytest.fixture(scope="session")
def account(shop_settings: Settings) -> Iterator[Account]:
    account = Account.of(shop_settings)
    assert account is not None
    yield account
    account.close()


@pytest.fixture
async def keyring(database: Database, shop_settings: Settings) -> Keyring:
    return await make_keyring(database, shop_settings)


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with Mailbox().open() as mailbox:
        yield mailbox


@pytest.fixture
async def shop(
    database: Database,
    account: Account,
    shop_settings: Settings,
    stripe_server: StripeServer,
    destinations: dict[str, Any],
    site: RunningServer,
    keyring: Keyring,
    mailbox: Mailbox,
) -> AsyncIterator[Shop]:
    """With a customer of its own; whatever a test has upset at the stand-in is put right after it."""
    tenant = await make_tenant(database, keyring)
    settings = msgspec.structs.replace(shop_settings, smtp_url=mailbox.url)
    ids = {name: destination.id for name, destination in destinations.items()}
    yield Shop(database, account, settings, stripe_server, tenant, ids)
    stripe_server.control.clear_faults()
    stripe_server.control.set_delivery(copies=1, at_once=4, retry_seconds=3600, most_tries=20)
    stripe_server.control.release_events()
    await stripe_server.control.settled()
    stripe_server.app.world.time_ahead = 0
    async with database.meter_transaction() as session:
        await session.execute(delete(OutboxItem))
        await session.execute(delete(StripeEvent))
        # Whoever looks next finds nobody to collect from but their own customer.
        await session.execute(update(AutoTopUp).values(enabled=False))
    async with owner_transaction(database) as owner:
        await owner.execute(delete(StripeSweep))
    stripe_server.check()
