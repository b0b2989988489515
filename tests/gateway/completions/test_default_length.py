"""How long an answer may be where the request does not say."""

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from farebox.billing.offers import remove_model
from farebox.billing.prices import set_price
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.keys.tokens import Keyring
from farebox.limits.service import LimitChange, set_limits
from tests.gateway.conftest import CONTEXT_LENGTH, offer
from tests.gateway.servers import RunningServer
from tests.tenants.factories import Tenant, make_tenant
from tests.waiting import WAIT_SECONDS

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell me all about the ferry."}],
    # Forbidding the special tokens makes every answer as long as it may be.
    "logit_bias": {str(token): -100 for token in range(5)},
}

AskWith = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def dear(server: RunningServer, database: Database, checkpoint: Path) -> AsyncIterator[str]:
    """A model of which a token costs a cent."""
    name = f"dear-{new_id().hex}"
    await offer(database, name, checkpoint)
    async with database.meter_transaction() as session:
        await set_price(
            session,
            name,
            input_per_million=Decimal(10_000),
            cached_input_per_million=Decimal(10_000),
            output_per_million=Decimal(10_000),
            currency="USD",
        )
    await server.call(server.gateway.catalog.refresh)
    yield name
    async with database.meter_transaction() as session:
        await remove_model(session, name)
    await server.call(server.gateway.catalog.refresh)


@pytest.fixture
async def prompt_tokens(http: httpx.AsyncClient) -> int:
    answer = await http.post("/v1/chat/completions", json=CHAT | {"model": "tiny", "max_tokens": 1})
    tokens: int = answer.json()["usage"]["prompt_tokens"]
    return tokens


@pytest.fixture
async def ask_with(
    server: RunningServer, database: Database, keyring: Keyring, dear: str, prompt_tokens: int
) -> AskWith:
    """Asks for a chat as a tenant whose money is for the prompt and so many tokens of output."""

    async def ask_with(output_tokens: int, **parameters: Any) -> httpx.Response:
        balance = Decimal(prompt_tokens + output_tokens) / 100
        tenant = await make_tenant(database, keyring, balance=balance)
        headers = {"authorization": f"Bearer {tenant.api_key}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
            return await client.post("/v1/chat/completions", json=CHAT | {"model": dear} | parameters)

    return ask_with


@pytest.mark.parametrize("n", [1, 3])
async def test_a_chat_has_what_the_balance_allows(ask_with: AskWith, n: int) -> None:
    document = (await ask_with(7 * n + n - 1, n=n)).json()
    assert document["usage"]["completion_tokens"] == 7 * n
    assert [choice["finish_reason"] for choice in document["choices"]] == ["length"] * n
    refused = await ask_with(n - 1, n=n)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_quota")


async def test_what_is_asked_for_is_never_lowered(ask_with: AskWith) -> None:
    for asked in ({"max_tokens": 8}, {"max_completion_tokens": 8}, {"min_tokens": 1}):
        assert (await ask_with(7, **asked)).status_code == 402
    assert (await ask_with(7, max_tokens=7)).json()["usage"]["completion_tokens"] == 7


async def test_log_probabilities_lower_a_default_and_refuse_no_request(ask_with: AskWith) -> None:
    document = (await ask_with(16, n=16, logprobs=True, top_logprobs=20)).json()
    assert [len(choice["logprobs"]["content"]) for choice in document["choices"]] == [1] * 16


async def test_a_rate_limit_counts_less_than_the_default_while_an_answer_runs(
    http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    """Whose bucket has no room for the default itself."""
    async with database.transaction(organization_id=tenant.organization_id) as session:
        change = LimitChange(tokens_per_minute=1500)
        await set_limits(session, tenant.organization_id, tenant.project_id, change)
    answer = await http.post("/v1/chat/completions", json=CHAT | {"model": "tiny"})
    assert answer.json()["usage"]["total_tokens"] == CONTEXT_LENGTH > 1500
    refused = await http.post("/v1/chat/completions", json=CHAT | {"model": "tiny"})
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-tokens"]) == (429, "0")
