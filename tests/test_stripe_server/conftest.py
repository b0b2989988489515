"""A stand-in with an account of its own, the real client to it, and a door for its webhooks."""

from collections.abc import Iterator

import pytest
from stripe import StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.answers import CheckedClient
from tests.test_stripe_server.hooks import Hooks


@pytest.fixture
def stripe_server() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def client(stripe_server: StripeServer) -> Iterator[StripeClient]:
    """Raises for any answer that is not complete."""
    transport = CheckedClient(timeout=30)
    yield stripe_server.client(http_client=transport)
    transport.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with Hooks() as open_hooks:
        yield open_hooks
