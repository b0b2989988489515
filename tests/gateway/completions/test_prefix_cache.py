"""Prefixes found in the cache: cheaper for the tenant who sent them before, unknown to every other."""

from decimal import Decimal
from typing import Any

import httpx

from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant, make_tenant

ASKED: dict[str, Any] = {"model": "tiny", "prompt": [*range(5, 105)], "max_tokens": 1}


async def cached_of(http: httpx.AsyncClient, **headers: str) -> int:
    answer = await http.post("/v1/completions", json=ASKED, headers=headers)
    tokens: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


async def test_a_prefix_is_shared_within_a_tenant_only(
    http: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: Tenant
) -> None:
    other = await make_tenant(database, keyring, balance=Decimal(1))
    assert await cached_of(http) == 0
    assert await cached_of(http) == 96
    assert await cached_of(http, authorization=f"Bearer {other.api_key}") == 0
    events = (await read_books(database, tenant.organization_id)).events
    assert sorted((event.input_tokens, event.cached_input_tokens) for event in events) == [(4, 96), (100, 0)]
    assert sorted(event.amount * 1_000_000 for event in events) == [4 + 48 + 2, 100 + 2]
