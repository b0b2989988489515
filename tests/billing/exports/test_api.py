"""Exports by the API: asked for, made by the worker, downloaded by links; each organization's own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from litestar import Litestar, Request, Response
from litestar.di import Provide
from sqlalchemy import select, text, update

from farebox.billing.exports import tasks
from farebox.billing.exports.models import Export, ExportPart
from farebox.billing.exports.routes import router
from farebox.billing.exports.service import MAX_KEPT, MAX_KEPT_BYTES, MAX_UNDER_WAY, forget_old_exports
from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.errors import FareboxError
from farebox.core.ids import external, internal, new_id
from farebox.worker import Worker
from tests.billing.clock import Clock
from tests.billing.exports.history import START, History
from tests.billing.exports.reading import ask, export
from tests.metering.factories import Account
from tests.owner import owner_transaction
from tests.tenants.factories import SETTINGS, Tenant, make_keyring, make_tenant

DAY = 86_400
FROM = int(START.timestamp())
FAILED_EXPORTS = text("""
INSERT INTO export
    (id, organization_id, listing, format, starts_at, ends_at, rows_per_part, status, created_at)
SELECT gen_random_uuid(), :organization, 'cost', 'csv', to_timestamp(0), to_timestamp(3600), 1000, 'failed',
    :now
FROM generate_series(1, :number)
""")


@pytest.fixture
async def app(database: Database) -> Litestar:
    def envelope(_: Request[Any, Any, Any], error: FareboxError) -> Response[Any]:
        return Response(error.envelope("req_1"), status_code=error.status, headers=error.headers)

    keyring = await make_keyring(database)
    return Litestar(
        [router],
        request_class=StrictRequest,
        dependencies={
            "database": Provide(lambda: database, sync_to_thread=False),
            "keyring": Provide(lambda: keyring, sync_to_thread=False),
            "settings": Provide(lambda: SETTINGS, sync_to_thread=False),
        },
        exception_handlers={FareboxError: envelope},
    )


@pytest.fixture
async def http(app: Litestar) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=cast(Any, app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://farebox/v1/organization") as client:
        yield client


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await make_tenant(database, await make_keyring(database))


@pytest.fixture
async def history(database: Database, tenant: Tenant) -> History:
    """Of the tenant's."""
    account = Account(tenant.organization_id, tenant.project_id, tenant.key_id, b"", f"m-{new_id().hex}")
    history = History(database, account)
    await history.of_everything()
    return history


def by(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.api_key}"}


async def ask_for(http: httpx2.AsyncClient, tenant: Tenant, **more: Any) -> httpx2.Response:
    asked = {"listing": "cost", "format": "focus", "start_time": FROM, "end_time": FROM + 3 * DAY} | more
    return await http.post("/exports", json=asked, headers=by(tenant))


async def work_off(database: Database) -> None:
    worker = Worker(database, SETTINGS, tasks.HANDLERS)
    while await worker.work_off():
        pass


async def cut(database: Database, asked: dict[str, Any], rows: int) -> None:
    """Have the worker cut parts smaller than anybody may ask for: a history has few rows."""
    async with database.meter_transaction() as session:
        export_id = internal("export", asked["id"])
        await session.execute(update(Export).where(Export.id == export_id).values(rows_per_part=rows))


async def get(http: httpx2.AsyncClient, tenant: Tenant, path: str) -> httpx2.Response:
    return await http.get(path, headers=by(tenant))


async def completed(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, *, rows_per_part: int = 10_000, **more: Any
) -> dict[str, Any]:
    asked = (await ask_for(http, tenant, **more)).json()
    await cut(database, asked, rows_per_part)
    await work_off(database)
    found: dict[str, Any] = (await get(http, tenant, f"/exports/{asked['id']}")).json()
    assert found["status"] == "completed", found
    return found


@pytest.mark.parametrize("format_", ["focus", "csv", "jsonl", "focus-parquet"])
async def test_what_is_asked_for_is_what_an_operator_would_export(
    http: httpx2.AsyncClient,
    database: Database,
    tenant: Tenant,
    history: History,
    tmp_path: Any,
    format_: str,
) -> None:
    asked = await ask_for(http, tenant, format=format_, rows_per_part=1_000)
    assert asked.status_code == 202
    assert [asked.json()[name] for name in ("status", "rows", "rows_per_part")] == ["queued", 0, 1_000]
    await cut(database, asked.json(), 6)
    await work_off(database)
    found = (await get(http, tenant, f"/exports/{asked.json()['id']}")).json()
    made = await export(database, ask(history.account, format_=format_, rows_per_part=6), tmp_path)
    assert (found["status"], found["rows"], found["sums"]) == ("completed", made.rows, made.sums)
    assert len(found["files"]) == found["parts"] == len(made.parts) > 2
    for file, part in zip(found["files"], made.parts, strict=True):
        answer = await http.get(file["url"].replace(SETTINGS.public_url, "http://farebox"))
        assert answer.status_code == 200
        assert (file["name"], file["rows"], file["bytes"]) == (part.name, part.rows, len(answer.content))
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert f'filename="{part.name}"' in answer.headers["content-disposition"]
        if format_ != "focus-parquet":
            provider = (tmp_path / part.name).read_bytes().replace(b"Acme Models", b"Farebox")
            assert answer.content == provider
    assert (
        (await get(http, tenant, f"/exports/{found['id']}?after_part=2"))
        .json()["files"][0]["name"]
        .endswith(made.parts[2].name[-8:])
    )


async def test_an_export_in_slices_comes_to_the_same(
    http: httpx2.AsyncClient,
    database: Database,
    tenant: Tenant,
    history: History,
) -> None:
    """Of more parts than the worker writes at a time."""
    whole = await completed(http, database, tenant)
    for n in range(60):
        await history.move(20 + n / 10, "top_up", "cash", "prepaid", "1", reference=f"receipt of {n}")
    made = await completed(http, database, tenant, rows_per_part=1)
    assert made["parts"] == made["rows"] == whole["rows"] + 60 > tasks.SLICE_PARTS


async def test_a_slice_done_twice_writes_nothing_twice(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History
) -> None:
    """As when an item's lease ran out: two workers write the same export at once."""
    asked = (await ask_for(http, tenant)).json()
    await cut(database, asked, 2)
    payload = {"export_id": internal("export", asked["id"]).hex}
    done = await asyncio.gather(
        *(tasks.write_export(database, SETTINGS, payload) for _ in range(2)), return_exceptions=True
    )
    assert done.count(None) >= 1
    await work_off(database)
    found = (await get(http, tenant, f"/exports/{asked['id']}")).json()
    assert (found["status"], found["rows"]) == ("completed", sum(file["rows"] for file in found["files"]))


async def test_an_export_that_does_not_come_to_the_ledger_has_failed_and_no_files(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History
) -> None:
    await history.move(1, "usage", "prepaid", "revenue:nothing", "0.5")
    asked = (await ask_for(http, tenant)).json()
    await work_off(database)
    found = (await get(http, tenant, f"/exports/{asked['id']}")).json()
    assert (found["status"], found["files"]) == ("failed", [])
    assert "in the ledger" in found["failure"]
    async with database.meter_transaction() as session:
        part = await session.scalar(select(ExportPart))
        assert part is not None
    link = f"/exports/{asked['id']}/parts/1?organization=x&expires=1&signature=y"
    assert (await http.get(link)).status_code == 403


@pytest.fixture
async def stranger(database: Database) -> Tenant:
    return await make_tenant(database, await make_keyring(database))


async def test_a_foreign_export_is_an_absent_one_to_the_byte(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History, stranger: Tenant
) -> None:
    made = await completed(http, database, tenant)
    answers = [
        await get(http, stranger, f"/exports/{name}")
        for name in (made["id"], external("export", new_id()), "export_1", "nonsense")
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[1].content)}
    assert [dict(answer.headers) for answer in answers] == [dict(answers[1].headers)] * 4
    assert (await get(http, stranger, "/exports")).json()["data"] == []
    assert [each["id"] for each in (await get(http, tenant, "/exports")).json()["data"]] == [made["id"]]


async def test_the_policies_keep_exports_apart_even_from_a_query_that_names_nobody(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History, stranger: Tenant
) -> None:
    await completed(http, database, tenant)
    async with database.transaction(organization_id=stranger.organization_id) as session:
        assert list(await session.scalars(select(Export))) == []
        assert list(await session.scalars(select(ExportPart))) == []
    async with database.transaction(organization_id=tenant.organization_id) as session:
        assert len(list(await session.scalars(select(Export)))) == 1


async def test_a_link_opens_one_part_of_one_export_for_a_while(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History, stranger: Tenant
) -> None:
    made = await completed(http, database, tenant, rows_per_part=9)
    parts = urlsplit(made["files"][0]["url"])
    query = {name: value[0] for name, value in parse_qs(parts.query).items()}
    other = external("export", new_id())
    for path, changed in (
        (parts.path, {"expires": str(int(query["expires"]) + 1)}),
        (parts.path, {"organization": external("org", stranger.organization_id)}),
        (parts.path, {"signature": query["signature"][:-1]}),
        (parts.path, {"signature": "ünïcode"}),
        (parts.path, {"expires": "1"}),
        (parts.path[:-1] + "2", {}),
        (parts.path.replace(made["id"], other), {}),
    ):
        answer = await http.get(f"http://farebox{path}?{urlencode(query | changed)}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "link_expired")
    assert (await http.get(f"http://farebox{parts.path}")).status_code == 400
    assert (await http.get(f"http://farebox{parts.path}?{parts.query}")).status_code == 200
    async with database.meter_transaction() as session:
        await session.execute(text("DELETE FROM export"))
    gone = await http.get(f"http://farebox{parts.path}?{parts.query}")
    assert (gone.status_code, gone.json()["error"]["message"]) == (404, "No such export.")


async def test_so_many_exports_are_under_way_at_once(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History, stranger: Tenant
) -> None:
    answers = await asyncio.gather(*(ask_for(http, tenant) for _ in range(MAX_UNDER_WAY + 3)))
    assert sorted(answer.status_code for answer in answers) == [202] * MAX_UNDER_WAY + [409] * 3
    assert (await ask_for(http, stranger)).status_code == 202
    await work_off(database)
    assert (await ask_for(http, tenant)).status_code == 202


async def refused(http: httpx2.AsyncClient, tenant: Tenant) -> str:
    answer = await ask_for(http, tenant)
    assert answer.status_code == 409
    code: str = answer.json()["error"]["code"]
    return code


async def test_so_many_exports_are_kept_at_a_time(
    http: httpx2.AsyncClient,
    database: Database,
    tenant: Tenant,
    history: History,
    stranger: Tenant,
    clock: Clock,
) -> None:
    await completed(http, database, tenant)
    async with owner_transaction(database) as session:
        more = {"organization": tenant.organization_id, "number": MAX_KEPT - 2, "now": clock.now}
        await session.execute(FAILED_EXPORTS, more)
    answers = await asyncio.gather(*(ask_for(http, tenant) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    assert await refused(http, tenant) == "too_many_exports"
    assert (await ask_for(http, stranger)).status_code == 202
    clock.advance(days=8)
    await forget_old_exports(database)
    assert (await ask_for(http, tenant)).status_code == 202


async def test_so_many_bytes_of_exports_are_kept_at_a_time(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History, stranger: Tenant
) -> None:
    await completed(http, database, tenant)
    async with owner_transaction(database) as session:
        await session.execute(update(ExportPart).values(size=MAX_KEPT_BYTES - 1))
    assert (await ask_for(http, tenant)).status_code == 202
    async with owner_transaction(database) as session:
        await session.execute(update(ExportPart).values(size=MAX_KEPT_BYTES))
    assert await refused(http, tenant) == "too_many_exports"
    assert (await ask_for(http, stranger)).status_code == 202


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"format": "focus", "listing": "usage"}, "format"),
        ({"format": "xls"}, "format"),
        ({"listing": "journal"}, "listing"),
        ({"start_time": FROM + 1}, "start_time"),
        ({"end_time": FROM + 3601}, "end_time"),
        ({"end_time": FROM}, "end_time"),
        ({"end_time": 4_000_000_000 // 3600 * 3600}, "end_time"),
        ({"start_time": FROM - 400 * DAY}, "start_time"),
        ({"rows_per_part": 0}, "rows_per_part"),
        ({"rows_per_part": 999}, "rows_per_part"),
        ({"rows_per_part": 10_001}, "rows_per_part"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_exported_is_refused_by_its_name(
    http: httpx2.AsyncClient, tenant: Tenant, wrong: dict[str, Any], param: str
) -> None:
    answer = await ask_for(http, tenant, **wrong)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_without_an_end_it_is_of_all_hours_that_are_over(
    http: httpx2.AsyncClient, tenant: Tenant, clock: Clock
) -> None:
    clock.now = START + timedelta(hours=5, seconds=59)
    asked = {"listing": "usage", "format": "csv", "start_time": FROM}
    answer = await http.post("/exports", json=asked, headers=by(tenant))
    assert answer.json()["end_time"] == FROM + 4 * 3600, "settlements of the fifth hour may still come"


async def test_exports_need_the_scope_admin(http: httpx2.AsyncClient, database: Database) -> None:
    tenant = await make_tenant(database, await make_keyring(database), scopes=["inference"])
    for answer in (await ask_for(http, tenant), await get(http, tenant, "/exports")):
        assert answer.status_code == 403


async def test_old_exports_are_forgotten_and_what_never_ended_has_failed(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History, clock: Clock
) -> None:
    made = await completed(http, database, tenant)
    stuck = (await ask_for(http, tenant)).json()
    await forget_old_exports(database)
    assert (await get(http, tenant, f"/exports/{stuck['id']}")).json()["status"] == "queued"
    clock.advance(days=2)
    await forget_old_exports(database)
    found = (await get(http, tenant, f"/exports/{stuck['id']}")).json()
    assert (found["status"], found["failure"]) == ("failed", "It was not completed within a day.")
    assert (await get(http, tenant, f"/exports/{made['id']}")).json()["status"] == "completed"
    clock.advance(days=6)
    await forget_old_exports(database)
    assert (await get(http, tenant, "/exports")).json()["data"] == []


async def test_an_export_of_too_many_rows_is_given_up(
    http: httpx2.AsyncClient, database: Database, tenant: Tenant, history: History
) -> None:
    asked = (await ask_for(http, tenant)).json()
    async with database.meter_transaction() as session:
        await session.execute(update(Export).values(rows=tasks.MAX_ROWS + 1))
    await work_off(database)
    found = (await get(http, tenant, f"/exports/{asked['id']}")).json()
    assert found["status"] == "failed"
    assert "ask for a shorter period" in found["failure"]
