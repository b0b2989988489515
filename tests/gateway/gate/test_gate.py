"""What a request meets before its body is read, and who pays for refusals."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from farebox.billing.funds import grant_credit_line, top_up
from farebox.billing.offers import add_model, remove_model
from farebox.billing.prices import add_price, set_price
from farebox.billing.terms import Terms, flat
from farebox.billing.tiers import Tariff, Tier
from farebox.core.database import Database
from farebox.keys.service import revoke_key
from farebox.keys.tokens import Keyring
from farebox.limits.service import LimitChange, set_limits
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.gateway.watchdog import unstalled
from tests.tenants.factories import Tenant, make_key, make_tenant
from tests.waiting import WAIT_SECONDS

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
GOOD: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
LONG = GOOD | {"messages": [{"role": "user", "content": "The ferry leaves. " * 50_000}]}

BAD_BODIES = {
    "no JSON": (b"{", JSON),
    "another field": (json.dumps(GOOD | {"foo": 1}).encode(), JSON),
    "too large": (b" " * 1_100_000, JSON),
    "no media type": (b"x", {"content-type": "text/plain"}),
    "a model that is not": (json.dumps(GOOD | {"model": "nope"}).encode(), JSON),
    "too long": (json.dumps(LONG).encode(), JSON),
}


@pytest.fixture(scope="module")
def narrow(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that bears twelve refusals of a key, and two of its requests before admission.

    Its clock stands still, so that no refusal is ever forgotten.
    """
    assert offered == "tiny"
    settings = make_settings(
        tmp_path_factory.mktemp("narrow"), refused_requests_per_minute=72, pending_requests_per_key=2
    )
    thread = ServerThread(settings, database_url, clock=lambda: 0.0)
    yield thread.start()
    thread.stop()


@asynccontextmanager
async def waiting_for_a_body(server: RunningServer, api_key: str) -> AsyncIterator[None]:
    """While the context is open, the server waits for the rest of a request with this key."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api_key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(WAIT_SECONDS):
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def knocking(narrow: RunningServer, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=narrow.url, headers=headers, timeout=30) as client:
        yield client


async def revoke(database: Database, tenant: Tenant) -> None:
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await revoke_key(session, organization_id=tenant.organization_id, key_id=tenant.key_id, actor_id=None)


@pytest.mark.parametrize("fault", BAD_BODIES)
async def test_a_revoked_key_is_told_nothing_of_its_body(
    fault: str, http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    content, headers = BAD_BODIES[fault]
    living = await http.post(CHAT, content=content, headers=headers)
    assert living.status_code in {400, 404, 413, 415}
    await revoke(database, tenant)
    revoked = await http.post(CHAT, content=content, headers=headers)
    assert (revoked.status_code, revoked.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_the_body_of_a_revoked_key_is_not_waited_for(
    server: RunningServer, database: Database, tenant: Tenant
) -> None:
    await revoke(database, tenant)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.api_key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
    writer.write(head.encode())
    answered = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert b" 401 " in answered


async def announce(server: RunningServer, api_key: str, size: int) -> bytes:
    """The status line told to who announces a body of so many bytes and sends none of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api_key}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode())
    answered = await asyncio.wait_for(reader.readline(), WAIT_SECONDS)
    writer.close()
    return answered


async def test_a_large_body_is_not_waited_for_where_there_is_no_money(
    server: RunningServer, database: Database, keyring: Keyring
) -> None:
    broke = await make_tenant(database, keyring)
    assert b" 402 " in await announce(server, broke.api_key, 900_000)


@pytest.mark.parametrize("scope", ["project", "organization"])
async def test_nor_where_a_cap_is_reached(
    scope: str, server: RunningServer, http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    async with database.transaction(organization_id=tenant.organization_id) as session:
        scope_id = getattr(tenant, f"{scope}_id")
        await set_limits(session, tenant.organization_id, scope_id, LimitChange(monthly_cap=Decimal(0)))
    assert b" 402 " in await announce(server, tenant.api_key, 900_000)
    told = (await http.post(CHAT, json=LONG)).json()["error"]
    assert told["code"] == "insufficient_quota"
    assert f"the {scope}'s monthly spend cap" in told["message"]


async def test_a_body_of_any_size_is_not_waited_for_where_money_was_short_before(
    server: RunningServer, database: Database, keyring: Keyring
) -> None:
    broke = await make_tenant(database, keyring)
    headers = {"authorization": f"Bearer {broke.api_key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        assert (await client.post(CHAT, json=GOOD)).status_code == 402
        assert b" 402 " in await announce(server, broke.api_key, 100)
        # Another key of the organization has no other purse.
        other = await make_key(database, keyring, broke)
        assert b" 402 " in await announce(server, other.token, 100)
        # Who gets money is heard at once.
        async with database.meter_transaction() as session:
            await top_up(
                session,
                organization_id=broke.organization_id,
                amount=Decimal(1),
                currency="USD",
                reference="first",
            )
        assert (await client.post(CHAT, json=GOOD)).status_code == 200


async def test_a_model_that_costs_nothing_needs_no_money(
    database: Database,
    database_url: str,
    keyring: Keyring,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    async with database.meter_transaction() as session:
        await add_model(
            session,
            model_id="gratis",
            path=str(checkpoint),
            sha256="0" * 64,
            context_length=2048,
            owned_by="tests",
        )
        await set_price(
            session,
            "gratis",
            input_per_million=Decimal(0),
            cached_input_per_million=Decimal(0),
            output_per_million=Decimal(0),
            currency="USD",
        )
    broke = await make_tenant(database, keyring)
    thread = ServerThread(make_settings(tmp_path), database_url)
    server = thread.start()
    headers = {"authorization": f"Bearer {broke.api_key}"}
    padded = json.dumps(GOOD | {"model": "gratis"}).encode() + b" " * 40_000
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        statuses = [
            (await client.post(CHAT, content=body, headers=JSON)).status_code
            for body in (padded, padded.replace(b"gratis", b"tiny"), json.dumps(GOOD).encode(), padded)
        ]
    thread.stop()
    async with database.meter_transaction() as session:
        await remove_model(session, "gratis")
    assert statuses == [200, 402, 402, 200]


async def test_a_credit_line_is_money(server: RunningServer, database: Database, keyring: Keyring) -> None:
    trusted = await make_tenant(database, keyring)
    async with database.meter_transaction() as session:
        await grant_credit_line(session, trusted.organization_id, amount=Decimal(1), currency="USD")
    headers = {"authorization": f"Bearer {trusted.api_key}"}
    padded = json.dumps(GOOD).encode() + b" " * 40_000
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        assert (await client.post(CHAT, content=padded, headers=JSON)).status_code == 200


NOTHING = Decimal(0)
FREE = flat(
    input_per_million=NOTHING, cached_input_per_million=NOTHING, output_per_million=NOTHING, currency="USD"
)
FREE_AT_FIRST = Tariff(scheme="graduated", tiers=(Tier(0, NOTHING), Tier(1_000_000, Decimal(1))))


@pytest.mark.parametrize(
    "terms",
    [FREE, Terms(currency="USD", tariffs=dict.fromkeys(("input", "cached_input", "output"), FREE_AT_FIRST))],
    ids=["free", "free at first"],
)
async def test_a_contract_may_ask_for_no_money(
    terms: Terms, server: RunningServer, database: Database, keyring: Keyring
) -> None:
    favoured, other = [await make_tenant(database, keyring) for _ in range(2)]
    async with database.meter_transaction() as session:
        await add_price(session, "tiny", terms, organization_id=favoured.organization_id)
    padded = json.dumps(GOOD).encode() + b" " * 40_000
    statuses = []
    for tenant in (favoured, other):
        headers = JSON | {"authorization": f"Bearer {tenant.api_key}"}
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
            statuses.append((await client.post(CHAT, content=padded, headers=headers)).status_code)
    assert statuses == [200, 402]


async def test_long_texts_of_every_shape_leave_the_loop_alone(
    server: RunningServer, http: httpx.AsyncClient
) -> None:
    text = LONG["messages"][0]["content"]
    parts = [{"type": "text", "text": text}]
    called = {"name": "f", "arguments": json.dumps({"a": text})}
    tool = {"name": "f", "parameters": {"type": "object", "description": text}}
    bodies = [
        GOOD | {"messages": [{"role": "user", "content": parts}]},
        GOOD | {"messages": [{"role": "user", "content": ""}] * 20_000},
        GOOD | {"messages": [{"role": "assistant", "content": "y", "reasoning_content": text}]},
        GOOD
        | {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "a", "type": "function", "function": called}],
                }
            ]
        },
        GOOD | {"tools": [{"type": "function", "function": tool}]},
    ]
    for body in bodies:
        async with unstalled(server):
            answer = await http.post(CHAT, json=body)
        assert answer.status_code in {200, 400}, answer.text


async def test_long_bodies_leave_the_threads_to_others(
    server: RunningServer, http: httpx.AsyncClient
) -> None:
    go = threading.Event()
    held = server.gateway.long_readers.run(uuid4(), lambda: go.wait(WAIT_SECONDS))
    holding = asyncio.run_coroutine_threadsafe(held, server.loop)
    long = asyncio.create_task(http.post(CHAT, json=LONG))
    # Too much for the loop, and no long one: its tokens are counted meanwhile, and are too many.
    medium = GOOD | {"messages": [{"role": "user", "content": "ferry " * 5_000}]}
    try:
        told = (await http.post(CHAT, json=medium)).json()["error"]["code"]
        assert (told, long.done()) == ("context_length_exceeded", False)
    finally:
        go.set()
    assert (await long).status_code == 400
    await asyncio.wrap_future(holding)


async def test_refusals_are_counted_whatever_they_are_for(
    knocking: httpx.AsyncClient, database: Database, keyring: Keyring
) -> None:
    poor = await make_tenant(database, keyring, balance=Decimal("0.01"))
    headers = {"authorization": f"Bearer {poor.api_key}"}
    dear = GOOD | {"n": 16, "max_tokens": 500}
    statuses = [(await knocking.post(CHAT, json=dear, headers=headers)).status_code for _ in range(6)]
    statuses += [
        (await knocking.post(CHAT, json=GOOD | {"foo": 1}, headers=headers)).status_code for _ in range(6)
    ]
    assert statuses == [402] * 6 + [400] * 6
    told = await knocking.post(CHAT, json=GOOD, headers=headers)
    assert (told.status_code, told.headers["retry-after"]) == (429, "1")
    # Nobody else is any worse off.
    assert (await knocking.post(CHAT, json=GOOD)).status_code == 200


@pytest.mark.parametrize("revoked", [False, True])
async def test_a_keys_refusals_are_its_own(
    revoked: bool, knocking: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: Tenant
) -> None:
    other = await make_key(database, keyring, tenant)
    if revoked:
        await revoke(database, tenant)
    statuses = [(await knocking.post(CHAT, json=GOOD | {"foo": 1})).status_code for _ in range(60)]
    assert statuses == [401 if revoked else 400] * 12 + [429] * 48
    headers = {"authorization": f"Bearer {other.token}"}
    assert (await knocking.post(CHAT, json=GOOD, headers=headers)).status_code == 200


async def test_a_key_has_so_many_requests_before_admission_and_no_more(
    narrow: RunningServer, knocking: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: Tenant
) -> None:
    other = await make_tenant(database, keyring, balance=Decimal(1))
    headers = {"authorization": f"Bearer {other.api_key}"}
    async with waiting_for_a_body(narrow, tenant.api_key), waiting_for_a_body(narrow, tenant.api_key):
        assert (await knocking.post(CHAT, json=GOOD)).status_code == 429
        assert (await knocking.post(CHAT, json=GOOD, headers=headers)).status_code == 200
    async with asyncio.timeout(WAIT_SECONDS):
        while (await knocking.post(CHAT, json=GOOD)).status_code != 200:
            pass


async def test_a_revoked_key_takes_no_room_from_its_organization(
    narrow: RunningServer, knocking: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: Tenant
) -> None:
    other = await make_key(database, keyring, tenant)
    headers = {"authorization": f"Bearer {other.token}"}
    # It is known to live when it is revoked, and nothing of it is looked at after that.
    assert (await knocking.post(CHAT, json=GOOD)).status_code == 200
    await revoke(database, tenant)
    async with waiting_for_a_body(narrow, tenant.api_key), waiting_for_a_body(narrow, tenant.api_key):
        assert (await knocking.post(CHAT, json=GOOD)).status_code == 429
        assert (await knocking.post(CHAT, json=GOOD, headers=headers)).status_code == 200


@pytest.mark.parametrize("fault", ["none", *BAD_BODIES])
async def test_a_key_for_other_things_is_told_so_while_it_lives(
    fault: str, server: RunningServer, database: Database, keyring: Keyring
) -> None:
    admin = await make_tenant(database, keyring, scopes=["admin"])
    content, media_type = BAD_BODIES.get(fault, (json.dumps(GOOD).encode(), JSON))
    headers = {"authorization": f"Bearer {admin.api_key}"} | media_type
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        living = await client.post(CHAT, content=content)
        await revoke(database, admin)
        revoked = await client.post(CHAT, content=content)
    assert (living.status_code, living.json()["error"]["code"]) == (403, "insufficient_scope")
    assert "`inference`" in living.json()["error"]["message"]
    assert (revoked.status_code, revoked.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.fixture
async def listed(database: Database, keyring: Keyring) -> Tenant:
    """A tenant whose key may call another model only."""
    return await make_tenant(database, keyring, balance=Decimal(1), models=["other"])


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"max_tokens": 100_000}),
        (CHAT, {"messages": LONG["messages"]}),
        (
            CHAT,
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": 1}}}},
        ),
        ("/v1/completions", {"prompt": [10**6], "messages": None}),
        ("/v1/embeddings", {"input": "x", "messages": None, "max_tokens": None}),
    ],
)
async def test_an_allow_list_hides_what_other_models_are(
    path: str, fields: dict[str, Any], http: httpx.AsyncClient, listed: Tenant
) -> None:
    body = {name: value for name, value in (GOOD | fields).items() if value is not None}
    headers = {"authorization": f"Bearer {listed.api_key}"}
    hidden = await http.post(path, json=body, headers=headers)
    absent = await http.post(path, json=body | {"model": "nope"}, headers=headers)
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")
    assert hidden.json()["error"]["message"] == absent.json()["error"]["message"].replace("nope", "tiny")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/organization/costs?start_time=0", CHAT])
async def test_two_authorization_headers_are_refused(
    path: str, server: RunningServer, tenant: Tenant
) -> None:
    good = f"Bearer {tenant.api_key}"
    async with httpx.AsyncClient(base_url=server.url) as client:
        method = "POST" if path == CHAT else "GET"
        headers = [("authorization", good), ("authorization", good)]
        answer = await client.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "duplicate_header")
