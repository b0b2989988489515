"""The usage and costs endpoints, judged by the official `openai` client."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import asyncpg
import httpx2
import openai
import pytest
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.errors import FareboxError
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import external, new_id
from farebox.core.shares import Shares
from farebox.keys.service import create_key
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Membership, User
from farebox.tenants.organizations import create_organization, create_project
from farebox.usage.errors import MAX_RESULTS
from farebox.usage.routes import router
from tests.tenants.factories import make_keyring
from tests.usage.usage_history import add_usage

DAY = datetime(2025, 3, 1, tzinfo=UTC)
START = int(DAY.timestamp())
URL = "http://farebox/v1/organization"
# Of the reports of an organization, as many are read or laid out at a time.
SHARE = 2

# openai.AsyncOpenAI, whose results are a union of eleven kinds that every test would have to narrow.
Client = Any


@dataclass
class Tenant:
    """Two projects; the first has a key of a user's, the second one of nobody's."""

    organization_id: UUID
    user_id: UUID
    projects: tuple[UUID, UUID]
    keys: tuple[UUID, UUID]
    admin_token: str
    inference_token: str

    async def used(self, database: Database, which: int, after: timedelta, **usage: Any) -> Decimal:
        return await add_usage(
            database,
            organization_id=self.organization_id,
            project_id=self.projects[which],
            api_key_id=self.keys[which],
            at=DAY + after,
            **usage,
        )


@pytest.fixture(scope="module")
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture(scope="module")
async def app(database: Database, keyring: Keyring) -> AsyncIterator[Litestar]:
    def envelope(_: Request[Any, Any, Any], error: FareboxError) -> Response[Any]:
        return Response(error.envelope("req_1"), status_code=error.status, headers=error.headers)

    printers = FairThreads("print")
    shares = Shares(SHARE)
    yield Litestar(
        [router],
        dependencies={
            "database": Provide(lambda: database, sync_to_thread=False),
            "keyring": Provide(lambda: keyring, sync_to_thread=False),
            "printers": Provide(lambda: printers, sync_to_thread=False),
            "report_shares": Provide(lambda: shares, sync_to_thread=False),
        },
        state=State({"report_shares": shares}),
        exception_handlers={FareboxError: envelope},
    )
    printers.close()


@pytest.fixture
async def tenant(database: Database, keyring: Keyring) -> Tenant:
    organization_id, user_id = new_id(), new_id()
    async with database.transaction(organization_id=organization_id, user_id=user_id) as session:
        session.add(User(id=user_id, email=f"{user_id.hex}@example.com", name="Ada", password_hash="x"))
        await session.flush()
        made = await create_organization(session, organization_id=organization_id, name="Acme")
        session.add(Membership(organization_id=organization_id, user_id=user_id, role="owner"))
        await session.flush()
        second = await create_project(
            session, organization_id=organization_id, name="Second", actor_id=user_id
        )
        projects = (made.project_id, second.id)
        mine = await create_key(
            session,
            keyring,
            organization_id=organization_id,
            project_id=projects[0],
            name="mine",
            user_id=user_id,
        )
        other = await create_key(
            session,
            keyring,
            organization_id=organization_id,
            project_id=projects[1],
            name="admin",
            scopes=["admin"],
        )
    return Tenant(organization_id, user_id, projects, (mine.row.id, other.row.id), other.token, mine.token)


@pytest.fixture
async def http(app: Litestar) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=cast(Any, app))) as client:
        yield client


@pytest.fixture
def client(http: httpx2.AsyncClient, tenant: Tenant) -> Client:
    return openai.AsyncOpenAI(
        admin_api_key=tenant.admin_token, base_url="http://farebox/v1", http_client=http, max_retries=0
    )


async def get(
    http: httpx2.AsyncClient, tenant: Tenant, path: str, query: str, token: str | None = None
) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token or tenant.admin_token}"}
    return await http.get(f"{URL}/{path}?{query}", headers=headers)


async def test_the_official_client_reads_daily_usage(
    client: Client, database: Database, tenant: Tenant
) -> None:
    await tenant.used(database, 0, timedelta(hours=1), input_tokens=7, cached_input_tokens=3, output_tokens=5)
    await tenant.used(database, 1, timedelta(hours=20), input_tokens=1, output_tokens=1)
    await tenant.used(database, 0, timedelta(days=2), input_tokens=100, output_tokens=200)
    page = await client.admin.organization.usage.completions(start_time=START, end_time=START + 3 * 86400)
    assert (page.object, page.has_more, page.next_page) == ("page", False, None)
    assert [(each.start_time, each.end_time) for each in page.data] == [
        (START + n * 86400, START + (n + 1) * 86400) for n in range(3)
    ]
    first, empty, last = (each.results for each in page.data)
    assert empty == []
    assert first[0].object == "organization.usage.completions.result"
    assert (first[0].input_tokens, first[0].input_cached_tokens, first[0].output_tokens) == (11, 3, 6)
    assert first[0].num_model_requests == 2
    assert first[0].project_id is first[0].model is first[0].api_key_id is first[0].user_id is None
    assert last[0].input_tokens == 100


async def test_groups_and_filters(client: Client, database: Database, tenant: Tenant) -> None:
    await tenant.used(database, 0, timedelta(hours=1), input_tokens=1, model="alpha")
    await tenant.used(database, 0, timedelta(hours=1, minutes=5), input_tokens=2, model="beta")
    await tenant.used(database, 1, timedelta(hours=1, minutes=7), input_tokens=4, model="alpha")
    usage = client.admin.organization.usage.completions
    window: Any = {"start_time": START, "end_time": START + 86400}
    page = await usage(**window, group_by=["project_id", "user_id", "api_key_id", "model"])
    found = {
        (each.project_id, each.user_id, each.api_key_id, each.model): each.input_tokens
        for each in page.data[0].results
    }
    here = (external("proj", tenant.projects[0]), external("user", tenant.user_id))
    key = external("key", tenant.keys[0])
    assert found == {
        (*here, key, "alpha"): 1,
        (*here, key, "beta"): 2,
        (external("proj", tenant.projects[1]), None, external("key", tenant.keys[1]), "alpha"): 4,
    }
    for filters, tokens in (
        ({"project_ids": [external("proj", tenant.projects[1])]}, 4),
        ({"user_ids": [external("user", tenant.user_id)]}, 3),
        ({"api_key_ids": [key]}, 3),
        ({"models": ["alpha"]}, 5),
        ({"models": ["alpha", "beta"], "api_key_ids": [key]}, 3),
    ):
        page = await usage(**window, **filters)
        assert page.data[0].results[0].input_tokens == tokens, filters
    page = await usage(**window, project_ids=[external("proj", new_id())])
    assert page.data[0].results == []


async def test_hours_and_minutes_cut_the_same_usage(
    client: Client, database: Database, tenant: Tenant
) -> None:
    for minute in (0, 59, 60):
        await tenant.used(database, 0, timedelta(minutes=minute, seconds=59), input_tokens=1)
    usage = client.admin.organization.usage.completions
    hours = await usage(start_time=START, end_time=START + 7200, bucket_width="1h")
    assert [sum(r.num_model_requests for r in each.results) for each in hours.data] == [2, 1]
    minutes = await usage(start_time=START, end_time=START + 7200, bucket_width="1m", limit=1440)
    assert {
        (each.start_time - START) // 60: each.results[0].num_model_requests
        for each in minutes.data
        if each.results
    } == {0: 1, 59: 1, 60: 1}
    assert len(minutes.data) == 120


async def test_pages_join_without_gap_or_overlap(client: Client, database: Database, tenant: Tenant) -> None:
    for hour in range(0, 10, 3):
        await tenant.used(database, 0, timedelta(hours=hour), input_tokens=hour + 1)
    usage = client.admin.organization.usage.completions
    window: Any = {"start_time": START, "end_time": START + 10 * 3600, "bucket_width": "1h"}
    whole = await usage(**window)
    joined, page = [], await usage(**window, limit=4)
    joined += page.data
    while page.has_more:
        assert page.next_page is not None
        page = await usage(**window, limit=4, page=page.next_page)
        joined += page.data
    assert joined == whole.data
    assert len(joined) == 10


async def test_nothing_lies_in_the_future(client: Client) -> None:
    now = datetime.now(UTC)
    page = await client.admin.organization.usage.completions(
        start_time=int(now.timestamp()) - 86400,
        end_time=int((now + timedelta(days=90)).timestamp()),
        limit=31,
    )
    assert len(page.data) in (2, 3)  # midnight may strike between the two clocks
    assert page.data[-1].end_time - now.timestamp() <= 86400 + 1
    assert not page.has_more


async def test_costs_are_exact_json_numbers(
    http: httpx2.AsyncClient, client: Client, database: Database, tenant: Tenant
) -> None:
    spent = Decimal(0)
    for _ in range(3):
        spent += await tenant.used(
            database,
            0,
            timedelta(hours=2),
            input_tokens=1,
            output_tokens=1,
            price=("0.1", "0", "1234567890.2"),
        )
    page = await client.admin.organization.usage.costs(start_time=START, end_time=START + 86400)
    result = page.data[0].results[0]
    assert result.object == "organization.costs.result"
    assert result.amount is not None
    assert result.amount.currency == "usd"
    answer = await get(http, tenant, "costs", f"start_time={START}&end_time={START + 86400}")
    amount = json.loads(answer.text, parse_float=Decimal)["data"][0]["results"][0]["amount"]
    assert amount["value"] == spent == Decimal("3703.7036709")


async def test_currencies_are_never_added_up(client: Client, database: Database, tenant: Tenant) -> None:
    await tenant.used(database, 0, timedelta(), input_tokens=1_000_000, currency="USD")
    await tenant.used(database, 0, timedelta(), input_tokens=2_000_000, currency="EUR")
    page = await client.admin.organization.usage.costs(start_time=START, end_time=START + 86400)
    amounts = [each.amount for each in page.data[0].results]
    assert [(each.currency, each.value) for each in amounts if each] == [("eur", 2.0), ("usd", 1.0)]
    usage = await client.admin.organization.usage.completions(start_time=START, end_time=START + 86400)
    assert [each.num_model_requests for each in usage.data[0].results] == [2]


async def test_line_items_sum_to_the_cost(client: Client, database: Database, tenant: Tenant) -> None:
    spent = await tenant.used(
        database, 0, timedelta(), input_tokens=3, cached_input_tokens=5, output_tokens=7, model="alpha"
    )
    spent += await tenant.used(database, 1, timedelta(hours=9), output_tokens=11, model="alpha")
    costs = client.admin.organization.usage.costs
    window: Any = {"start_time": START, "end_time": START + 86400}
    page = await costs(**window, group_by=["line_item"])
    assert [(each.line_item, each.quantity, each.quantity_unit) for each in page.data[0].results] == [
        ("alpha, cached_input_tokens", 5, "tokens"),
        ("alpha, input_tokens", 3, "tokens"),
        ("alpha, output_tokens", 18, "tokens"),
    ]
    total = sum(Decimal(str(each.amount.value)) for each in page.data[0].results if each.amount)
    assert total == spent
    split = await costs(**window, group_by=["line_item", "project_id"], line_items=["alpha, output_tokens"])
    assert {(each.project_id, each.quantity) for each in split.data[0].results} == {
        (external("proj", tenant.projects[0]), 7),
        (external("proj", tenant.projects[1]), 11),
    }


async def test_another_tenant_sees_nothing(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, keyring: Keyring
) -> None:
    await tenant.used(database, 0, timedelta(), input_tokens=1)
    organization_id = new_id()
    async with database.transaction(organization_id=organization_id) as session:
        made = await create_organization(session, organization_id=organization_id, name="Other")
        stranger = await create_key(
            session,
            keyring,
            organization_id=organization_id,
            project_id=made.project_id,
            name="admin",
            scopes=["admin"],
        )
    ours = external("proj", tenant.projects[0])
    for path in ("usage/completions", "costs"):
        query = f"start_time={START}&end_time={START + 86400}&project_ids={ours}"
        answer = await get(http, tenant, path, query, stranger.token)
        assert answer.json()["data"][0]["results"] == []


async def test_only_an_admin_key_opens_it(http: httpx2.AsyncClient, tenant: Tenant) -> None:
    for path in ("usage/completions", "costs"):
        assert (await http.get(f"{URL}/{path}?start_time=0")).status_code == 401
        answer = await get(http, tenant, path, "start_time=0", tenant.inference_token)
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"),
        ("start_time=soon", "start_time"),
        ("start_time=-1", "start_time"),
        (f"start_time={10**30}", "start_time"),
        ("start_time=1.5", "start_time"),
        ("start_time=NaN", "start_time"),
        ("start_time=5&start_time=6", "start_time"),
        ("start_time=100&end_time=100", "end_time"),
        ("start_time=100&end_time=99999999999999", "end_time"),
        ("start_time=0&bucket_width=1w", "bucket_width"),
        ("start_time=0&limit=0", "limit"),
        ("start_time=0&limit=100000", "limit"),
        ("start_time=0&group_by=batch", "group_by"),
        ("start_time=0&group_by[]=batch", "group_by"),
        ("start_time=0&project_ids=key_0", "project_ids"),
        ("start_time=0&api_key_ids[]=%00", "api_key_ids"),
        ("start_time=0&page=page_%FF", "page"),
        ("start_time=0&page=page_MTcwMDAwMDAwMDAwMDAwMDAwMDA", "page"),
        ("start_time=0&batch=true", "batch"),
        ("start_time=0&project_id=proj_0", "project_id"),
    ],
)
@pytest.mark.parametrize("path", ["usage/completions", "costs"])
async def test_a_bad_parameter_is_named(
    http: httpx2.AsyncClient, tenant: Tenant, path: str, query: str, param: str
) -> None:
    answer = await get(http, tenant, path, query)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert f"`{param}`" in error["message"]


@pytest.mark.parametrize(
    "query",
    ["models=%00", "models=", "user_ids=org_0", "bucket_width=1d&limit=32", "bucket_width=1h&limit=169"],
)
async def test_bounds_of_completions_only(http: httpx2.AsyncClient, tenant: Tenant, query: str) -> None:
    answer = await get(http, tenant, "usage/completions", f"start_time=0&{query}")
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("start_time", [253370764801, 253402214399, 253402214400])
async def test_a_start_from_which_no_page_fits_into_time_is_a_400(
    http: httpx2.AsyncClient, tenant: Tenant, start_time: int
) -> None:
    for path in ("usage/completions", "costs"):
        answer = await get(http, tenant, path, f"start_time={start_time}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "start_time")
        latest = await get(http, tenant, path, f"start_time=253370764800&limit=31&end_time={2**31}")
        assert latest.status_code == 400
        assert (await get(http, tenant, path, "start_time=253370764800")).status_code == 200


async def test_the_longest_page_begins_with_time_itself(http: httpx2.AsyncClient, tenant: Tenant) -> None:
    answer = await get(http, tenant, "costs", "start_time=0&limit=180")
    assert len(answer.json()["data"]) == 180


@pytest.mark.parametrize("path", ["usage/completions", "costs"])
async def test_a_report_that_takes_too_long_says_so(
    http: httpx2.AsyncClient, tenant: Tenant, database_url: str, path: str
) -> None:
    """Not that the database were away, as it once did; here it waits for a table that somebody holds."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("LOCK TABLE usage_hour IN ACCESS EXCLUSIVE MODE")
        answer = await get(http, tenant, path, f"start_time={START}")
    await connection.close()
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], answer.headers["x-should-retry"]) == ("report_too_slow", "false")
    assert "shorter span" in error["message"]
    assert (await get(http, tenant, path, f"start_time={START}")).status_code == 200


async def test_a_report_has_so_many_results_and_no_more(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant
) -> None:
    async with database.meter_transaction() as session:
        await session.execute(
            text("""
            INSERT INTO usage_hour SELECT :organization, :day, gen_random_uuid(), gen_random_uuid(), 'demo',
                'USD', 1, 1, 1, 1, 1, 0, 0 FROM generate_series(1, :number)
            """),
            {"organization": tenant.organization_id, "day": DAY, "number": MAX_RESULTS + 1},
        )
    window = f"start_time={START}&end_time={START + 86400}"
    for query in ("costs?group_by=api_key_id", "usage/completions?group_by=api_key_id"):
        path, _, group = query.partition("?")
        answer = await get(http, tenant, path, f"{window}&{group}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "report_too_large")
        assert len((await get(http, tenant, path, window)).json()["data"][0]["results"]) == 1


@pytest.mark.parametrize("path", ["usage/completions", "costs"])
async def test_what_waits_to_be_laid_out_has_a_bound(
    http: httpx2.AsyncClient, app: Litestar, tenant: Tenant, path: str
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(SHARE):
            await stack.enter_async_context(app.state.report_shares.of(tenant.organization_id))
        answer = await get(http, tenant, path, f"start_time={START}")
        assert answer.status_code == 503
        assert "your organization" in answer.json()["error"]["message"]
    assert (await get(http, tenant, path, f"start_time={START}")).status_code == 200
