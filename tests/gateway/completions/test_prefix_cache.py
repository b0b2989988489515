"""Prefixes found in the cache: cheaper for the tenant who sent them before, unknown to every other."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx

from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from tests.gateway.completions.test_departures import running
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant, make_tenant
from tests.waiting import until

ASKED: dict[str, Any] = {"model": "tiny", "prompt": [*range(5, 105)], "max_tokens": 1}


async def cached_of(http: httpx.AsyncClient, **headers: str) -> int:
    answer = await http.post("/v1/completions", json=ASKED, headers=headers)
    tokens: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


async def test_who_has_a_prompt_computed_and_leaves_pays_for_it_all_the_next_time(
    http: httpx.AsyncClient, server: RunningServer
) -> None:
    prompt = {"prompt": [*range(7, 107)], "logit_bias": {str(token): -100 for token in range(5)}}
    asking = asyncio.create_task(http.post("/v1/completions", json=ASKED | prompt | {"max_tokens": 1800}))
    await until(lambda: running(server) == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: running(server) == 0)
    for cached in (0, 96):
        answer = await http.post("/v1/completions", json=ASKED | prompt)
        assert answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == cached


async def test_who_leaves_a_stream_has_paid_for_its_prompt(
    http: httpx.AsyncClient, server: RunningServer
) -> None:
    prompt = {"prompt": [*range(9, 109)], "logit_bias": {str(token): -100 for token in range(5)}}
    asked = ASKED | prompt | {"max_tokens": 1800, "stream": True}
    async with http.stream("POST", "/v1/completions", json=asked) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                break
        again = await http.post("/v1/completions", json=ASKED | prompt)
    await until(lambda: running(server) == 0)
    assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 96


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
