"""What every page must be: closed to others, free of inline code, labelled, escaped."""

import asyncio
import re
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Engine, update
from sqlalchemy.event import listen, remove

from farebox.core.clock import utc_now
from farebox.core.database import Database, plain_dsn
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import external, new_id
from farebox.core.settings import Settings
from farebox.dashboard.parts import ROWS
from farebox.keys.models import ApiKey
from farebox.keys.tokens import Keyring
from farebox.limits.ceilings import set_ceilings
from farebox.limits.models import MeterScope
from farebox.limits.service import get_limits
from farebox.tenants.ceilings import CeilingChange
from farebox.tenants.models import Membership, Organization
from farebox.tenants.organizations import create_project
from tests.dashboard.browsers import FormBrowser, Forms, Markup, Member, sign_in_by_cookie, text_of
from tests.gateway.servers import RunningServer
from tests.tenants.factories import make_tenant
from tests.usage.usage_history import add_usage
from tests.waiting import WAIT_SECONDS

DOORS = ["/sign-in", "/sign-up", "/forgot", "/reset?token=x", "/verify?token=x"]
ROOMS = ["/overview", "/overview?span=30d&show=tokens", "/keys", "/prices", "/limits", "/billing"]


@pytest.mark.parametrize("path", DOORS + ROOMS + ["/limits/key_0", "/overview?span=1y"])
async def test_every_page_is_strict_and_private(owner: Member, path: str) -> None:
    answer = await owner.browser.get(path)
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    markup = Markup(answer.text)
    assert markup.inline == []
    assert len(markup.ids) == len(set(markup.ids))
    assert set(markup.fields) <= markup.labelled
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", answer.text)


async def test_assets_may_be_kept_for_ever(visitor: FormBrowser) -> None:
    page = await visitor.get("/sign-in")
    urls = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert len(set(urls)) == 4
    for url in set(urls):
        answer = await visitor.get(url)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/static/0000000000000000/farebox.css", "/static/x/..%2Froutes.py", "/static/x/none.css"):
        assert (await visitor.get(path)).status_code == 404


async def test_what_people_typed_is_escaped(owner: Member, database: Database) -> None:
    evil = "<script>alert(1)</script>"
    async with database.transaction(organization_id=owner.tenant.organization_id) as session:
        await session.execute(update(Organization).values(name=evil))
    for path in ROOMS:
        page = (await owner.browser.get(path)).text
        assert "alert(1)" in page
        assert evil not in page


async def test_the_overview_shows_what_each_request_cost(owner: Member, database: Database) -> None:
    tenant = owner.tenant
    amount = await add_usage(
        database,
        organization_id=tenant.organization_id,
        project_id=tenant.project_id,
        api_key_id=tenant.key_id,
        at=utc_now(),
        model="alpha",
        input_tokens=1234,
        cached_input_tokens=56,
        output_tokens=789,
        price=("0.5", "0.25", "1.5"),
    )
    assert amount == Decimal("0.0018145")
    words = text_of((await owner.browser.get("/overview")).text)
    assert "Spend today $0.001814 " in words  # six decimals, half to even
    assert "Tokens today 2,079 1,234 in · 56 cached · 789 out" in words
    assert "Balance $10.00" in words
    assert "1,234 × $0.50 56 × $0.25 789 × $1.50 80 ms $0.0018145" in words


async def test_the_chart_counts_by_hour_and_by_day(owner: Member, database: Database) -> None:
    tenant, now = owner.tenant, utc_now()
    for back, tokens in ((timedelta(), 7), (timedelta(days=2), 11)):
        await add_usage(
            database,
            organization_id=tenant.organization_id,
            project_id=tenant.project_id,
            api_key_id=tenant.key_id,
            at=now - back,
            output_tokens=tokens,
        )
    hours = (await owner.browser.get("/overview?span=24h&show=tokens")).text
    assert f"{now:%d %b, %H}:00 UTC: 7" in hours
    assert len(re.findall('<rect class="value"', hours)) == 24
    days = (await owner.browser.get("/overview?span=30d&show=tokens")).text
    assert f"{now:%d %b %Y}: 7" in days
    assert f"{now - timedelta(days=2):%d %b %Y}: 11" in days
    assert len(re.findall('<rect class="value"', days)) == 30


async def test_models_are_shown_with_their_prices(owner: Member) -> None:
    words = text_of((await owner.browser.get("/prices")).text)
    assert "tiny-on-pages writes text 2,048 $1.00 $0.50 $2.00" in words


async def test_a_model_kept_from_an_organization_is_told_on_no_page(
    owner: Member, site: RunningServer, database: Database, offered_model: str
) -> None:
    settings: Settings = site.app.state.settings
    for allowed, told in ([offered_model], True), (["another"], False), ([], False):
        async with database.meter_transaction() as session:
            change = CeilingChange(allowed_models=allowed)
            await set_ceilings(session, owner.tenant.organization_id, change, settings)
        for path in ("/prices", "/overview", "/keys"):
            assert (offered_model in (await owner.browser.get(path)).text) is told, path


async def test_a_balance_is_never_rounded_up(owner: Member, database: Database) -> None:
    async with database.meter_transaction() as session:
        await session.execute(
            update(MeterScope)
            .where(MeterScope.id == owner.tenant.organization_id)
            .values(balance=Decimal("1004.9996"))
        )
    assert "Balance $1,004.99 " in text_of((await owner.browser.get("/overview")).text)


async def test_the_overview_of_one_project(owner: Member, database: Database) -> None:
    tenant = owner.tenant
    async with database.transaction(organization_id=tenant.organization_id) as session:
        other = await create_project(
            session, organization_id=tenant.organization_id, name="Other", actor_id=tenant.user_id
        )
    await add_usage(
        database,
        organization_id=tenant.organization_id,
        project_id=tenant.project_id,
        api_key_id=tenant.key_id,
        at=utc_now(),
        output_tokens=5,
    )
    everything = text_of((await owner.browser.get("/overview")).text)
    assert "Requests today 1 " in everything
    page = await owner.browser.get(f"/overview?project={external('proj', other.id)}")
    assert "Requests today 0 " in text_of(page.text)


async def test_what_belongs_to_others_is_absent(owner: Member, database: Database, keyring: Keyring) -> None:
    stranger = await make_tenant(database, keyring)
    for kind, theirs in (("proj", stranger.project_id), ("key", stranger.key_id)):
        answers = []
        for target in (external(kind, theirs), external(kind, new_id()), f"{kind}_nonsense"):
            path = f"/overview?project={target}" if kind == "proj" else f"/limits/{target}"
            page = await owner.browser.get(path)
            answers.append((page.status_code, re.sub(r"req_\w+", "", page.text)))
        assert {status for status, _ in answers} == {404}
        assert len(set(answers)) == 1
    foreign = external("key", stranger.key_id)
    token = (await owner.browser.get("/keys")).text.split('name="csrf_token" value="')[1].split('"')[0]
    for path, fields in (
        (f"/keys/{foreign}/revoke", {}),
        (f"/limits/{foreign}", {"requests_per_minute": "1"}),
        (f"/limits/{external('org', stranger.organization_id)}", {"monthly_cap": "1"}),
        ("/keys", {"name": "x", "project": external("proj", stranger.project_id)}),
    ):
        answer = await owner.browser.post(path, {"csrf_token": token} | fields)
        assert answer.status_code == 404, path


@pytest.mark.parametrize("path", ["/keys", "/projects", "/sign-out", "/limits/org_0", "/keys/key_0/revoke"])
async def test_no_form_works_from_another_site(owner: Member, path: str) -> None:
    token = (await owner.browser.get("/keys")).text.split('name="csrf_token" value="')[1].split('"')[0]
    fields = {"name": "stolen", "csrf_token": token}
    for answer in (
        await owner.browser.post(path, fields, origin="https://evil.example"),
        await owner.browser.post(path, fields | {"csrf_token": "x"}),
        await owner.browser.post(path, {"name": "stolen"}),
    ):
        assert answer.status_code == 403
        assert "did not come from this site" in answer.text
    assert "stolen" not in (await owner.browser.get("/keys")).text


async def test_limits_are_set_and_shown(owner: Member) -> None:
    organization = external("org", owner.tenant.organization_id)
    project = external("proj", owner.tenant.project_id)
    key = external("key", owner.tenant.key_id)
    browser = owner.browser
    answer = await browser.submit("/limits", f"/limits/{organization}", monthly_cap="12.5")
    assert answer.status_code == 200
    assert "Saved." in answer.text
    assert "of a cap of $12.50" in text_of((await browser.get("/overview")).text)
    await browser.submit("/limits", f"/limits/{project}", tokens_per_minute="5000")
    forms = dict(Forms((await browser.get("/limits")).text).found)
    assert forms[f"/limits/{project}"]["tokens_per_minute"] == "5000"
    answer = await browser.submit(f"/limits/{key}", f"/limits/{key}", requests_per_minute="7")
    assert 'value="7"' in answer.text
    answer = await browser.submit("/limits", f"/limits/{organization}", monthly_cap="")
    assert "of a cap" not in (await browser.get("/overview")).text


@pytest.mark.parametrize("typed", ["-1", "1.234", "NaN", "Infinity", "1e999", "ten", "9" * 40, "\x00"])
async def test_a_bad_limit_is_said_on_the_page(owner: Member, typed: str) -> None:
    organization = external("org", owner.tenant.organization_id)
    answer = await owner.browser.submit("/limits", f"/limits/{organization}", monthly_cap=typed)
    assert answer.status_code == 400
    beside = answer.text.split('id="monthly_cap-org')[1].split("</p>")[0]
    assert 'aria-invalid="true" aria-describedby="fault-monthly_cap"' in beside
    assert 'role="alert">Write an amount like 25.00' in beside


async def test_every_fault_is_said_at_its_field_and_what_was_typed_stays(
    owner: Member, site: RunningServer
) -> None:
    settings: Settings = site.app.state.settings
    organization = external("org", owner.tenant.organization_id)
    typed = {"monthly_cap": "1e3", "requests_per_minute": "1,000", "concurrent_requests": "12"}
    answer = await owner.browser.submit("/limits", f"/limits/{organization}", **typed)
    assert answer.status_code == 400
    assert answer.text.count('class="fault"') == 2
    most = settings.max_requests_per_minute
    assert answer.text.count(f"Write a whole number from 0 to {most:,} in digits alone") == 1
    for text in typed.values():
        assert f'value="{text}"' in answer.text
    assert "expected" not in answer.text.lower()
    assert 'value="12"' not in (await owner.browser.get("/limits")).text, "nothing was saved"


async def test_making_a_key_is_a_step_until_there_is_one(owner: Member, database: Database) -> None:
    assert "Make an API key" not in text_of((await owner.browser.get("/overview")).text)
    async with database.transaction(organization_id=owner.tenant.organization_id) as session:
        await session.execute(update(ApiKey).values(revoked_at=utc_now()))
    assert "Make an API key" in text_of((await owner.browser.get("/overview")).text)


async def test_a_limit_is_committed_before_the_page_is_drawn(
    owner: Member, database: Database, database_url: str
) -> None:
    organization_id = owner.tenant.organization_id
    await owner.browser.get("/limits")
    page = (await owner.browser.get("/limits")).text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    connection = await asyncpg.connect(plain_dsn(database_url))

    async def limit() -> int | None:
        async with database.transaction(organization_id=organization_id) as session:
            return (await get_limits(session, organization_id, organization_id)).requests_per_minute

    try:
        async with connection.transaction():
            # Whatever draws the page waits here; what changes a limit does not.
            await connection.execute("LOCK TABLE project IN ACCESS EXCLUSIVE MODE")
            path = f"/limits/{external('org', organization_id)}"
            fields = {"csrf_token": token, "requests_per_minute": "77"}
            saving = asyncio.create_task(owner.browser.post(path, fields))
            async with asyncio.timeout(WAIT_SECONDS):
                while await limit() != 77:
                    pass
            assert not saving.done()
        assert "Saved." in (await saving).text
    finally:
        await connection.close()


async def test_the_page_of_limits_asks_as_little_for_many_projects_as_for_one(
    owner: Member, database: Database
) -> None:
    statements: list[str] = []

    def note(*event: Any) -> None:
        statements.append(event[2])

    listen(Engine, "before_cursor_execute", note)
    try:
        await owner.browser.get("/limits")
        few = len(statements)
        async with database.transaction(organization_id=owner.tenant.organization_id) as session:
            for _ in range(20):
                await create_project(
                    session, organization_id=owner.tenant.organization_id, name="p", actor_id=None
                )
        statements.clear()
        await owner.browser.get("/limits")
    finally:
        remove(Engine, "before_cursor_execute", note)
    # Others of this process may ask something meanwhile.
    assert few - 2 <= len(statements) <= few + 2


async def test_nobody_lifts_their_own_limits_above_the_operators(owner: Member, site: RunningServer) -> None:
    project = external("proj", owner.tenant.project_id)
    settings: Settings = site.app.state.settings
    for name in ("requests_per_minute", "tokens_per_minute", "concurrent_requests"):
        most: int = getattr(settings, f"max_{name}")
        for typed, status in ((most + 1, 400), (2_000_000_000, 400), (most, 200)):
            answer = await owner.browser.submit("/limits", f"/limits/{project}", **{name: str(typed)})
            assert answer.status_code == status
        assert f'value="{most}"' in answer.text


async def test_a_ceiling_of_the_organizations_own_stands_in_the_settings_place(
    owner: Member, site: RunningServer, database: Database
) -> None:
    settings: Settings = site.app.state.settings
    project = external("proj", owner.tenant.project_id)
    for most in (settings.max_requests_per_minute + 1, 7):
        async with database.meter_transaction() as session:
            change = CeilingChange(max_requests_per_minute=most)
            await set_ceilings(session, owner.tenant.organization_id, change, settings)
        typed = {"requests_per_minute": str(most + 1)}
        answer = await owner.browser.submit("/limits", f"/limits/{project}", **typed)
        assert answer.status_code == 400
        assert f"Write a whole number from 0 to {most:,} in digits alone" in answer.text
        typed = {"requests_per_minute": str(most)}
        assert (await owner.browser.submit("/limits", f"/limits/{project}", **typed)).status_code == 200


async def test_a_limit_above_the_operators_is_told_at_its_field_and_nothing_typed_is_lost(
    owner: Member, site: RunningServer
) -> None:
    settings: Settings = site.app.state.settings
    project = external("proj", owner.tenant.project_id)
    typed = {
        "monthly_cap": "1e3",
        "requests_per_minute": str(settings.max_requests_per_minute + 1),
        "tokens_per_minute": "7",
        "concurrent_requests": str(settings.max_concurrent_requests + 1),
    }
    answer = await owner.browser.submit("/limits", f"/limits/{project}", **typed)
    assert answer.status_code == 400
    assert answer.text.count('class="fault"') == 3
    for name in ("requests_per_minute", "concurrent_requests"):
        most: int = getattr(settings, f"max_{name}")
        beside = answer.text.split(f'id="{name}-{project}"')[1].split("</p>")[0]
        assert f"Write a whole number from 0 to {most:,} in digits alone" in beside
        assert name not in text_of(beside.partition(">")[2])
    assert dict(Forms(answer.text).found)[f"/limits/{project}"].items() >= typed.items()
    saved = dict(Forms((await owner.browser.get("/limits")).text).found)
    assert set(typed.values()).isdisjoint(saved[f"/limits/{project}"].values()), "nothing was saved"


@pytest.mark.parametrize(("name", "said"), [("x" * 101, "Write a name of"), ("x" * 1001, "1,000 characters")])
async def test_a_projects_bad_name_is_told_at_its_field_and_stays(
    owner: Member, name: str, said: str
) -> None:
    answer = await owner.browser.submit("/limits", "/projects", name=name)
    assert answer.status_code == 400
    assert said in answer.text.split('id="project-name"')[1].split("</p>")[0]
    assert dict(Forms(answer.text).found)["/projects"]["name"] == name


async def test_there_is_an_end_to_projects_and_keys(
    owner: Member, database: Database, site: RunningServer
) -> None:
    settings: Settings = site.app.state.settings
    async with database.transaction(organization_id=owner.tenant.organization_id) as session:
        for _ in range(settings.max_projects - 1):
            await create_project(
                session, organization_id=owner.tenant.organization_id, name="p", actor_id=None
            )
    answer = await owner.browser.submit("/limits", "/projects", name="one more")
    assert answer.status_code == 409
    assert f"{settings.max_projects} projects" in answer.text
    assert dict(Forms(answer.text).found)["/projects"]["name"] == "one more"


async def test_a_member_may_look_but_not_change_limits(owner: Member, database: Database) -> None:
    tenant = owner.tenant
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await session.execute(update(Membership).values(role="member"))
    page = await owner.browser.get("/limits")
    assert "Save</button>" not in page.text
    token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
    organization = external("org", tenant.organization_id)
    for path, fields in (
        (f"/limits/{organization}", {"monthly_cap": "1"}),
        ("/projects", {"name": "x"}),
        ("/keys", {"name": "x", "project": external("proj", tenant.project_id), "scope": "admin"}),
    ):
        answer = await owner.browser.post(path, {"csrf_token": token} | fields)
        assert answer.status_code == 403, path


async def test_a_project_is_made(owner: Member) -> None:
    answer = await owner.browser.submit("/limits", "/projects", name="Search")
    assert answer.status_code == 303
    assert "Search" in (await owner.browser.get("/keys")).text
    answer = await owner.browser.submit("/limits", "/projects", name="x" * 101)
    assert answer.status_code == 400


async def test_errors_are_pages(owner: Member) -> None:
    answer = await owner.browser.get("/limits/key_0")
    assert answer.status_code == 404
    assert "Not found" in answer.text
    assert answer.headers["x-request-id"] in answer.text
    answer = await owner.browser.http.post(
        "/keys", content=b"{}", headers={"content-type": "application/json", "origin": owner.browser.url}
    )
    assert answer.status_code == 403


async def test_many_projects_are_shown_in_parts(owner: Member, database: Database) -> None:
    """A project that was made or changed is on the part that is shown."""
    organization_id = owner.tenant.organization_id
    async with database.transaction(organization_id=organization_id) as session:
        for _ in range(ROWS):
            await create_project(session, organization_id=organization_id, name="p", actor_id=None)
    first, second = [(await owner.browser.get(f"/limits?page={n}")).text for n in (1, 2)]
    assert [page.count('action="/limits/proj_') for page in (first, second)] == [ROWS, 1]
    answer = await owner.browser.submit("/limits", "/projects", name="The newest")
    shown = (await owner.browser.get(answer.headers["location"])).text
    assert "The newest" in shown
    assert shown.count('action="/limits/proj_') == 2
    project = answer.headers["location"].partition("#")[2]
    saved = await owner.browser.submit("/limits?page=2", f"/limits/{project}", requests_per_minute="7")
    assert "Saved." in saved.text
    assert saved.text.count('action="/limits/proj_') == 2


async def test_a_page_is_drawn_when_its_tenants_turn_comes_and_no_other_waits(
    owner: Member, visitor: FormBrowser, database: Database, keyring: Keyring, site: RunningServer
) -> None:
    tenant = await make_tenant(database, keyring)
    await sign_in_by_cookie(database, visitor, tenant.user_id)
    begun, held = threading.Event(), threading.Event()
    printers: FairThreads = site.app.state.printers

    def hold() -> bool:
        begun.set()
        return held.wait(WAIT_SECONDS)

    printing = asyncio.create_task(site.call(lambda: printers.run(owner.tenant.organization_id, hold)))
    assert await asyncio.to_thread(begun.wait, WAIT_SECONDS)
    waiting = asyncio.create_task(owner.browser.get("/keys"))
    for path in ("/keys", "/limits", "/overview", "/prices"):
        assert (await visitor.get(path)).status_code == 200
    assert not waiting.done()
    held.set()
    assert (await waiting).status_code == 200
    assert await printing
