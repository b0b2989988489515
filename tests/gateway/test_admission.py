"""What is wrong with a request is told to who may call, and to nobody else."""

from typing import Any

import httpx
import pytest

from farebox.core.database import Database
from farebox.keys.service import revoke_key
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
TEXT = {"model": "tiny", "prompt": "Hello", "max_tokens": 2}

# A path, a body, and what somebody with a good key is told of it.
FAULTS = [
    ("chat/completions", CHAT | {"model": "gpt-7"}, (404, "model_not_found")),
    ("chat/completions", CHAT | {"modalities": ["audio"]}, (400, "unsupported_parameter")),
    # Both are wrong: what the request says comes before what it is sent to.
    ("chat/completions", CHAT | {"model": "gpt-7", "modalities": ["audio"]}, (400, "unsupported_parameter")),
    ("chat/completions", CHAT | {"max_tokens": 100_000}, (400, "context_length_exceeded")),
    ("completions", TEXT | {"model": "gpt-7"}, (404, "model_not_found")),
    ("completions", TEXT | {"prompt": [1, "mixed"]}, (400, "invalid_value")),
    ("embeddings", {"model": "gpt-7", "input": "Hello"}, (404, "model_not_found")),
    ("embeddings", {"model": "tiny", "input": "Hello"}, (400, "invalid_value")),
    ("rerank", {"model": "tiny", "query": "a", "documents": ["b"]}, (400, "invalid_value")),
    ("classify", {"model": "tiny", "input": "Hello"}, (400, "invalid_value")),
]


async def told(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[int, str]:
    answer = await http.post(f"/v1/{path}", json=body)
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize(("path", "body", "fault"), FAULTS)
async def test_a_fault_is_told_to_a_living_key_only(
    http: httpx.AsyncClient,
    database: Database,
    tenant: Tenant,
    path: str,
    body: dict[str, Any],
    fault: tuple[int, str],
) -> None:
    assert await told(http, path, body) == fault
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await revoke_key(session, organization_id=tenant.organization_id, key_id=tenant.key_id, actor_id=None)
    assert await told(http, path, body) == (401, "invalid_api_key")
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds
