"""Invoices by the API: who may read what, page by page, and as documents."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, cast

import httpx2
import msgspec
import pytest
from litestar import Litestar, Request, Response
from litestar.di import Provide
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from farebox.billing.invoices.credit_notes import Part, credit
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.month import parse_month
from farebox.billing.invoices.parties import Details, set_billing_details
from farebox.billing.invoices.payments import pay
from farebox.billing.invoices.routes import router
from farebox.billing.invoices.schemas import InvoiceDetails
from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.errors import FareboxError
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import external, new_id
from farebox.core.settings import Settings
from farebox.core.shares import Shares
from farebox.keys.service import create_key
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Membership, User
from farebox.tenants.organizations import create_service_account
from tests.billing.invoices.books import MONTH, Books, day
from tests.metering.factories import Account
from tests.tenants.factories import make_keyring

INVOICES = "/v1/organization/invoices"
DETAILS = "/v1/organization/billing_details"


@pytest.fixture(scope="module")
async def keyring(database_url: str) -> Keyring:
    database = Database(database_url, pool_size=2)
    keyring = await make_keyring(database)
    await database.close()
    return keyring


@pytest.fixture
async def app(database: Database, keyring: Keyring, seller: Settings) -> AsyncIterator[Litestar]:
    def envelope(_: Request[Any, Any, Any], error: FareboxError) -> Response[Any]:
        return Response(error.envelope("req_1"), status_code=error.status, headers=error.headers)

    printers, shares = FairThreads("print"), Shares(4)
    yield Litestar(
        [router],
        request_class=StrictRequest,
        dependencies={
            "database": Provide(lambda: database, sync_to_thread=False),
            "keyring": Provide(lambda: keyring, sync_to_thread=False),
            "printers": Provide(lambda: printers, sync_to_thread=False),
            "settings": Provide(lambda: seller, sync_to_thread=False),
            "report_shares": Provide(lambda: shares, sync_to_thread=False),
        },
        exception_handlers={FareboxError: envelope},
    )
    printers.close()


@pytest.fixture
async def http(app: Litestar) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=cast(Any, app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://farebox") as client:
        yield client


class Caller:
    """Somebody with a key."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, **query: str) -> httpx2.Response:
        return await self._http.get(path, params=query, headers=self._headers)

    async def post(self, path: str, body: Any) -> httpx2.Response:
        return await self._http.post(path, json=body, headers=self._headers)

    async def json(self, path: str, **query: str) -> Any:
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()


class People:
    """Makes callers of an organization."""

    def __init__(self, database: Database, keyring: Keyring, http: httpx2.AsyncClient) -> None:
        self._database, self._keyring, self._http = database, keyring, http

    async def holder(
        self, account: Account, role: str | None = None, scope: str = "admin", *, service: bool = False
    ) -> Caller:
        """With a key of a person in this role, of a service account, or of nobody: the operator's."""
        user_id = new_id() if role else None
        async with self._database.transaction(
            organization_id=account.organization_id, user_id=user_id
        ) as session:
            if role:
                session.add(
                    User(id=user_id, email=f"{new_id().hex}@example.com", name="Ada", password_hash="x")
                )
                await session.flush()
                session.add(Membership(organization_id=account.organization_id, user_id=user_id, role=role))
                await session.flush()
            service_account = None
            if service:
                service_account = await create_service_account(
                    session,
                    organization_id=account.organization_id,
                    project_id=account.project_id,
                    name="robot",
                    actor_id=None,
                )
            made = await create_key(
                session,
                self._keyring,
                organization_id=account.organization_id,
                project_id=account.project_id,
                name="key",
                user_id=user_id,
                service_account_id=service_account.id if service_account else None,
                scopes=[scope],
            )
        return Caller(self._http, made.token)


@pytest.fixture
def people(database: Database, keyring: Keyring, http: httpx2.AsyncClient) -> People:
    return People(database, keyring, http)


async def invoiced(books: Books, months: int = 1) -> tuple[Account, list[Invoice]]:
    account, month, made = await books.customer(line=1000), MONTH, list[Invoice]()
    for _ in range(months):
        await books.use(account, day(2, month), input_tokens=3_000_000)
        made.append(await books.close(account, month))
        month = month.next
    return account, made


async def test_one_invoice_as_json(books: Books, people: People) -> None:
    account, (invoice,) = await invoiced(books)
    caller = await people.holder(account)
    async with books.database.meter_transaction() as session:
        await pay(session, invoice.number, amount=Decimal("0.50"), reference="bank")
        note = await credit(
            session, invoice.number, reason="late", settings=books.seller, part=Part(1, Decimal(1))
        )
    shown = await caller.json(f"{INVOICES}/{external('inv', invoice.id)}")
    msgspec.convert(shown, InvoiceDetails)
    said = (shown["status"], shown["amount_due"], shown["amount_paid"], shown["amount_open"])
    assert said == ("open", "3.00", "0.50", "1.50")
    assert shown["document"] == msgspec.json.decode(invoice.document)
    assert shown["credit_notes"] == [external("inv", note.id)]
    told = await caller.json(f"{INVOICES}/{external('inv', note.id)}")
    assert (told["kind"], told["refers_to"], told["total"]) == ("credit_note", shown["id"], "1.00")


async def test_a_document_stays_as_it_was_issued(books: Books, people: People) -> None:
    account, (invoice,) = await invoiced(books)
    caller = await people.holder(account, "owner")
    path = f"{INVOICES}/{external('inv', invoice.id)}"
    before = [await caller.get(path + end) for end in ("", "/pdf", "/html")]
    assert (await caller.post(DETAILS, {"name": "Another name", "language": "zh-Hans"})).status_code == 200
    after = [await caller.get(path + end) for end in ("", "/pdf", "/html")]
    assert [each.content for each in before] == [each.content for each in after]
    assert before[1].headers["content-type"] == "application/pdf"
    assert invoice.number in before[1].headers["content-disposition"]
    assert before[1].content.startswith(b"%PDF")
    assert "default-src 'none'" in before[2].headers["content-security-policy"]
    assert invoice.number in before[2].text


async def test_pages_follow_each_other_newest_first(books: Books, people: People) -> None:
    account, made = await invoiced(books, 5)
    caller = await people.holder(account)
    numbers, after, pages = list[str](), dict[str, str](), 0
    while True:
        page = await caller.json(INVOICES, limit="2", **after)
        numbers += [each["number"] for each in page["data"]]
        pages += 1
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert pages == 3
    assert numbers == [each.number for each in reversed(made)]
    assert await caller.json(INVOICES, after=external("inv", made[0].id)) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        (INVOICES, {"limit": "0"}, "limit"),
        (INVOICES, {"limit": "101"}, "limit"),
        (INVOICES, {"after": "org_1"}, "after"),
        (INVOICES, {"colour": "red"}, "colour"),
        (f"{INVOICES}/preview", {"month": "2026-13"}, "month"),
        (f"{INVOICES}/preview", {"month": "9999-12"}, "month"),
        (f"{INVOICES}/preview", {"month": "2026-1\n"}, "month"),
    ],
)
async def test_bad_parameters_are_named(
    books: Books, people: People, path: str, query: dict[str, str], param: str
) -> None:
    caller = await people.holder(await books.customer())
    answer = await caller.get(path, **query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_preview_is_a_draft(books: Books, people: People) -> None:
    account = await books.customer(line=10)
    await books.use(account, day(2), input_tokens=1_005_000)
    caller = await people.holder(account)
    shown = await caller.json(f"{INVOICES}/preview", month="2025-03")
    assert (shown["status"], shown["document"]["number"]) == ("draft", None)
    assert (shown["document"]["exact_total"], shown["document"]["amount_due"]) == ("1.005", "1.00")
    now = await caller.json(f"{INVOICES}/preview")
    assert (now["document"]["lines"], now["document"]["kind"]) == ([], "statement")
    assert now["month"] >= "2026-11"


async def test_what_is_anothers_is_as_absent_as_what_is_not(books: Books, people: People) -> None:
    account, (mine,) = await invoiced(books)
    stranger = await people.holder(await books.customer(line=10))
    assert (await stranger.json(INVOICES))["data"] == []
    for end in ("", "/pdf", "/html"):
        asked = [
            await stranger.get(f"{INVOICES}/{name}{end}")
            for name in (external("inv", mine.id), external("inv", new_id()), "inv_1", "org_" + mine.id.hex)
        ]
        assert {each.status_code for each in asked} == {404}
        assert len({each.content for each in asked}) == 1
    pages = [
        (await stranger.get(INVOICES, after=external("inv", name))).content for name in (mine.id, new_id())
    ]
    assert pages[0] == pages[1]
    shown = await stranger.json(f"{INVOICES}/preview", month="2025-03")
    assert shown["document"]["lines"] == []


async def test_the_walls_stand_in_postgres_too(books: Books) -> None:
    account, (invoice,) = await invoiced(books)
    async with books.database.meter_transaction() as session:
        await pay(session, invoice.number, amount=Decimal(1), reference="bank")
        await credit(session, invoice.number, reason="late", settings=books.seller)
    async with books.database.transaction(organization_id=account.organization_id) as session:
        await set_billing_details(session, account.organization_id, Details(name="A"), actor_id=None)
    stranger = await books.customer()
    tables = ("invoice", "invoice_payment", "credited_line", "billing_details")
    async with books.database.transaction(organization_id=stranger.organization_id) as session:
        for table in tables:
            found = await session.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608
            assert found == 0, table
    async with books.database.transaction(organization_id=account.organization_id) as session:
        for table in tables:
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")), table  # noqa: S608


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoice SET paid = due",
        "INSERT INTO invoice_payment DEFAULT VALUES",
        "DELETE FROM invoice",
        "DELETE FROM billing_details",
        "SELECT * FROM number_series",
        "UPDATE number_series SET last = 0",
    ],
)
async def test_the_applications_role_writes_no_documents(books: Books, statement: str) -> None:
    account, _ = await invoiced(books)
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with books.database.transaction(organization_id=account.organization_id) as session:
            await session.execute(text(statement))


async def test_a_document_is_frozen_for_the_worker_too(books: Books) -> None:
    await invoiced(books)
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with books.database.meter_transaction() as session:
            await session.execute(text("UPDATE invoice SET document = '{}'"))


@pytest.mark.parametrize(
    ("role", "scope", "service", "statuses"),
    [
        ("owner", "admin", False, (200, 200, 200)),
        ("admin", "admin", False, (200, 200, 403)),
        ("member", "admin", False, (403, 403, 403)),
        ("owner", "inference", False, (403, 403, 403)),
        (None, "admin", False, (200, 200, 200)),
        (None, "admin", True, (200, 200, 403)),
    ],
)
async def test_who_may_read_and_who_may_change(
    books: Books,
    people: People,
    role: str | None,
    scope: str,
    service: bool,
    statuses: tuple[int, int, int],
) -> None:
    caller = await people.holder(await books.customer(), role, scope, service=service)
    answers = (
        await caller.get(INVOICES),
        await caller.get(DETAILS),
        await caller.post(DETAILS, {"name": "Acme GmbH"}),
    )
    assert tuple(each.status_code for each in answers) == statuses


async def test_who_is_billed_stands_on_the_next_document(books: Books, people: People) -> None:
    account, _ = await invoiced(books)
    caller = await people.holder(account, "owner")
    wanted = {
        "name": "东方明珠科技有限公司",
        "address": ["世纪大道1号", "上海市"],
        "country": "CN",
        "tax_id": "91310000",
        "email": "finance@example.cn",
        "language": "zh-Hans",
    }
    assert (await caller.post(DETAILS, wanted)).json() == wanted | {"object": "organization.billing_details"}
    assert await caller.json(DETAILS) == wanted | {"object": "organization.billing_details"}
    month = parse_month("2025-04")
    await books.use(account, day(2, month), input_tokens=1_000_000)
    invoice = await books.close(account, month)
    said = msgspec.json.decode(invoice.document)
    assert (said["language"], said["customer"]["address"]) == ("zh-Hans", wanted["address"])
    assert (await caller.post(DETAILS, {})).json()["name"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a\n"},
        {"name": "x" * 201},
        {"name": 1},
        {"address": ["x"] * 7},
        {"address": ["\u0000"]},
        {"country": "de"},
        {"country": "DEU"},
        {"email": "nobody"},
        {"email": "a@b\n"},
        {"language": "fr"},
        {"colour": "red"},
    ],
)
async def test_bad_details_are_refused(books: Books, people: People, body: Any) -> None:
    caller = await people.holder(await books.customer(), "owner")
    assert (await caller.post(DETAILS, body)).status_code == 400
    assert (await caller.json(DETAILS))["name"] is None
