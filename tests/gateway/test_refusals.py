"""Which limit of which scope refused: the access line names it, and nothing that is secret."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from farebox.core.database import Database
from farebox.core.ids import external
from farebox.core.logs import configure_logs
from farebox.keys.tokens import Keyring
from farebox.limits.service import LimitChange, set_limits
from tests.cli.commands import logs_kept
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import Tenant, make_tenant
from tests.waiting import WAIT_SECONDS

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "A ferry is"}], "max_tokens": 4}


async def refused(
    server: RunningServer, tenant: Tenant, capture: pytest.CaptureFixture[bytes]
) -> tuple[httpx.Response, dict[str, Any]]:
    """The answer to a chat that a limit refuses, and the access line of it."""
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    with logs_kept():
        configure_logs("INFO", as_json=True)
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
            answer = await client.post("/v1/chat/completions", json=CHAT)
        # The line is written when the answer is out, in the same step of the server's loop.
        await server.call(lambda: None)
    written = capture.readouterr().err
    assert tenant.api_key.encode() not in written
    lines = [json.loads(line) for line in written.splitlines()]
    (line,) = (line for line in lines if line.get("request_id") == answer.headers["x-request-id"])
    return answer, line


@pytest.mark.parametrize(
    ("scope", "prefix", "change", "limit"),
    [
        ("organization", "org", LimitChange(monthly_cap=Decimal(0)), "monthly_cap"),
        ("project", "proj", LimitChange(monthly_cap=Decimal(0)), "monthly_cap"),
        ("project", "proj", LimitChange(requests_per_minute=0), "requests_per_minute"),
        ("key", "key", LimitChange(tokens_per_minute=1), "tokens_per_minute"),
        ("organization", "org", LimitChange(concurrent_requests=0), "concurrent_requests"),
    ],
)
async def test_the_access_line_names_the_limit_and_the_scope(
    scope: str,
    prefix: str,
    change: LimitChange,
    limit: str,
    database: Database,
    server: RunningServer,
    tenant: Tenant,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    scope_id = getattr(tenant, f"{scope}_id")
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await set_limits(session, tenant.organization_id, scope_id, change)
    answer, line = await refused(server, tenant, capfdbinary)
    assert answer.status_code == (402 if limit == "monthly_cap" else 429)
    assert (line["refused_by"], line["scope"], line["scope_id"]) == (limit, scope, external(prefix, scope_id))
    assert line["organization"] == external("org", tenant.organization_id)
    assert (line["event"], line["status"]) == ("request.completed", answer.status_code)
    assert int(answer.headers["x-ratelimit-limit-tokens"]) >= 1
    assert "x-ratelimit-remaining-requests" in answer.headers


async def test_an_empty_purse_is_named_too(
    database: Database, keyring: Keyring, server: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    tenant = await make_tenant(database, keyring)
    answer, line = await refused(server, tenant, capfdbinary)
    assert answer.status_code == 402
    assert (line["refused_by"], line["scope"]) == ("balance", "organization")
    assert line["scope_id"] == line["organization"] == external("org", tenant.organization_id)


@pytest.fixture(scope="module")
def strict(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that bears one refusal at once and one request of a key before admission."""
    assert offered == "tiny"
    folder = tmp_path_factory.mktemp("strict")
    settings = make_settings(folder, refused_requests_per_minute=6, pending_requests_per_key=1)
    thread = ServerThread(settings, database_url)
    yield thread.start()
    thread.stop()


async def test_the_gate_names_the_key_whose_requests_were_refused_too_often(
    database: Database, keyring: Keyring, strict: RunningServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    tenant = await make_tenant(database, keyring)
    answer, _ = await refused(strict, tenant, capfdbinary)
    assert answer.status_code == 402
    answer, line = await refused(strict, tenant, capfdbinary)
    assert answer.status_code == 429
    assert (line["refused_by"], line["scope"]) == ("refused_requests_per_minute", "key")
    assert line["scope_id"] == external("key", tenant.key_id)
    assert line["organization"] == external("org", tenant.organization_id)


async def test_the_gate_names_who_has_too_many_requests_before_admission(
    strict: RunningServer, tenant: Tenant, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.api_key}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode())
    line: dict[str, Any] = {"status": 200}
    async with asyncio.timeout(WAIT_SECONDS):
        while line["status"] == 200:
            _, line = await refused(strict, tenant, capfdbinary)
    writer.close()
    assert (line["refused_by"], line["scope"]) == ("pending_requests", "key")
    assert line["scope_id"] == external("key", tenant.key_id)
    assert line["organization"] == external("org", tenant.organization_id)
