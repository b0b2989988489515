"""Every billed answer has a receipt: in a header, or in a stream's last chunk."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from farebox.core.database import Database
from farebox.keys.jws import read_jwks
from farebox.metering.receipts.statement import Statement
from farebox.metering.receipts.verification import InvalidReceipt, verify_receipt
from tests.gateway.conftest import MODEL
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS

QUESTION: Any = [{"role": "user", "content": "What does a token cost?"}]


async def check(http: httpx.AsyncClient, receipt: str) -> Statement:
    return verify_receipt(receipt, read_jwks((await http.get("/.well-known/jwks.json")).content))


async def booked(database: Database, tenant: Tenant, statement: Statement) -> bool:
    """Whether the receipt says what the books do."""
    (event,) = (await read_books(database, tenant.organization_id)).events
    tokens = (event.input_tokens, event.cached_input_tokens, event.output_tokens)
    return (
        statement.request_id == f"req_{event.request_id.hex}"
        and statement.organization_id == f"org_{event.organization_id.hex}"
        and statement.price_id == f"price_{event.price_id.hex}"
        and (statement.model, statement.model_sha256) == (event.model_id, "0" * 64)
        and (statement.input_tokens, statement.cached_input_tokens, statement.output_tokens) == tokens
        and (Decimal(statement.amount), statement.currency) == (event.amount, event.currency)
        and event.amount > 0
    )


async def test_a_whole_answer_has_its_receipt_in_a_header(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, offered: str
) -> None:
    body = {"model": offered, "messages": QUESTION, "max_tokens": 5}
    answer = await http.post("/v1/chat/completions", json=body)
    assert await booked(database, tenant, await check(http, answer.headers["farebox-receipt"]))


async def test_an_altered_receipt_is_none(http: httpx.AsyncClient, tenant: Tenant, offered: str) -> None:
    body = {"model": offered, "prompt": "One", "max_tokens": 5}
    first, second = [
        (await http.post("/v1/completions", json=body)).headers["farebox-receipt"] for _ in range(2)
    ]
    for part in range(5):
        parts = first.split(".")
        middle = len(parts[part]) // 2
        parts[part] = parts[part][:middle] + "AAAA" + parts[part][middle + 4 :] if parts[part] else "AAAA"
        with pytest.raises(InvalidReceipt):
            await check(http, ".".join(parts))
    statement, path, _ = first.split(".", 2)
    with pytest.raises(InvalidReceipt, match="does not belong to the root"):
        await check(http, f"{statement}.{path}.{second.split('.', 2)[2]}")
    with pytest.raises(InvalidReceipt):
        await check(http, "pending")


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("choices", [1, 3])
async def test_a_streamed_chat_has_it_in_its_last_chunk(
    client: AsyncOpenAI,
    http: httpx.AsyncClient,
    database: Database,
    tenant: Tenant,
    offered: str,
    include_usage: bool,
    choices: int,
) -> None:
    stream = await client.chat.completions.create(
        model=offered,
        messages=QUESTION,
        max_tokens=5,
        n=choices,
        stream=True,
        stream_options={"include_usage": include_usage},
    )
    chunks = [chunk async for chunk in stream]
    assert not any("receipt" in (chunk.model_extra or {}) for chunk in chunks[:-1])
    assert await booked(database, tenant, await check(http, (chunks[-1].model_extra or {})["receipt"]))
    # Each choice ends once, and none after the usage; without it there is no chunk without a choice.
    ended = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert sorted(ended) == list(range(choices))
    assert [bool(chunk.choices) for chunk in chunks] == [True] * (len(chunks) - include_usage) + [
        False
    ] * include_usage


@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_streamed_text_has_it_in_its_last_chunk(
    client: AsyncOpenAI,
    http: httpx.AsyncClient,
    database: Database,
    tenant: Tenant,
    offered: str,
    include_usage: bool,
) -> None:
    asked: Any = {"model": offered, "prompt": "One two", "max_tokens": 6, "temperature": 0}
    own = {"ignore_eos": True}
    stream: Any = await client.completions.create(
        **asked, extra_body=own, stream=True, stream_options={"include_usage": include_usage}
    )
    chunks = [chunk async for chunk in stream]
    assert await booked(database, tenant, await check(http, chunks[-1].model_extra["receipt"]))
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == "length"
    assert set(reasons[:-1]) == {None}
    whole = (await http.post("/v1/completions", json=asked | own)).json()["choices"][0]["text"]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole


async def test_without_receipts_nothing_is_told_of_them(
    database_url: str, tenant: Tenant, offered: str, tmp_path: Path
) -> None:
    thread = ServerThread(make_settings(tmp_path, receipts=False), database_url)
    server: RunningServer = thread.start()
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as http:
        body = {"model": MODEL, "messages": QUESTION, "max_tokens": 3}
        whole = await http.post("/v1/chat/completions", json=body)
        streamed = await http.post("/v1/chat/completions", json=body | {"stream": True})
    thread.stop()
    assert whole.status_code == 200
    assert "farebox-receipt" not in whole.headers
    assert '"finish_reason":"length"' in streamed.text or '"finish_reason":"stop"' in streamed.text
    assert "receipt" not in streamed.text
