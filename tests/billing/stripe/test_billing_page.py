"""The page where a customer's owner pays: by forms alone, and in a real browser."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest
from playwright.async_api import Browser, expect

from farebox.billing.promotions import grant
from farebox.core.database import Database, present
from farebox.core.ids import external
from farebox.tenants.models import Membership
from tests.billing.stripe.shop import Shop
from tests.billing.stripe.test_automatic import automatic, ready, saved
from tests.dashboard.browsers import FormBrowser, Forms, sign_in_by_cookie, text_of
from tests.dashboard.chromium import chromium as chromium
from tests.dashboard.chromium import opened
from tests.gateway.servers import RunningServer
from tests.owner import owner_transaction
from tests.tenants.factories import make_account


@pytest.fixture
async def browser(shop: Shop, site: RunningServer, database: Database) -> AsyncIterator[FormBrowser]:
    """The customer's owner, signed in."""
    async with FormBrowser(site.url) as browser:
        await sign_in_by_cookie(database, browser, shop.tenant.user_id)
        yield browser


async def test_the_page_shows_what_there_is_and_until_when(shop: Shop, browser: FormBrowser) -> None:
    await shop.paid("25")
    async with shop.database.meter_transaction() as session:
        await grant(
            session,
            organization_id=shop.organization_id,
            amount=Decimal(3),
            currency="USD",
            reference="welcome",
            expires_at=await present(session) + timedelta(days=30),
        )
    page = (await browser.get("/billing")).text
    assert "$28.00" in page
    assert "$3.00 until" in text_of(page)
    assert "paid" in text_of(page.split("top-ups stack")[1])


async def test_the_form_leads_to_stripes_page_and_twice_to_the_same(shop: Shop, browser: FormBrowser) -> None:
    led = [await browser.submit("/billing", "/billing/top-ups", amount="25.00") for _ in range(2)]
    assert [answer.status_code for answer in led] == [303, 303]
    assert led[0].headers["location"] == led[1].headers["location"]
    page = await browser.get(led[0].headers["location"])
    (row,) = await shop.top_ups()
    assert row.keeps_method
    assert row.url is not None
    assert f'content="0;url={row.url}"' in page.text
    shop.pay(row)
    back = await browser.get(f"/billing?top_up={external('topup', row.id)}")
    assert "$25.00 are in your balance" in text_of(back.text)
    assert await shop.balance() == 25
    await shop.work()
    assert await shop.balance() == 25


@pytest.mark.parametrize(
    ("amount", "told"), [("25,00", "Write an amount like 25.00."), ("1", "at least 5.00")]
)
async def test_what_is_wrong_is_told_and_what_was_typed_stays(
    shop: Shop, browser: FormBrowser, amount: str, told: str
) -> None:
    answer = await browser.submit("/billing", "/billing/top-ups", amount=amount)
    assert answer.status_code == 400
    assert told in text_of(answer.text)
    assert f'value="{amount}"' in answer.text
    assert await shop.top_ups() == []


async def test_automatic_top_up_is_saved_and_its_faults_are_told(shop: Shop, browser: FormBrowser) -> None:
    fields = {"enabled": "yes", "threshold": "5", "amount": "20", "monthly_ceiling": "60"}
    answer = await browser.submit("/billing", "/billing/auto-top-up", **fields)
    assert "Saved." in text_of(answer.text)
    row = await saved(shop)
    assert (row.enabled, row.monthly_ceiling) == (True, Decimal(60))
    refused = await browser.submit("/billing", "/billing/auto-top-up", **fields | {"monthly_ceiling": "10"})
    assert "The monthly ceiling is at least one top-up." in text_of(refused.text)
    assert (await saved(shop)).monthly_ceiling == 60


async def test_a_member_sees_the_balance_and_cannot_pay(
    shop: Shop, browser: FormBrowser, database: Database
) -> None:
    form = dict(Forms((await browser.get("/billing")).text).found)["/billing/top-ups"]
    async with owner_transaction(database) as session:
        membership = await session.get_one(Membership, (shop.organization_id, shop.tenant.user_id))
        membership.role = "admin"
    page = await browser.get("/billing")
    assert "An owner of the organization can pay in." in text_of(page.text)
    assert "/billing/top-ups" not in page.text
    assert (await browser.post("/billing/top-ups", form | {"amount": "25"})).status_code == 403
    assert await shop.top_ups() == []


async def test_another_organizations_top_up_is_not_there(
    shop: Shop, browser: FormBrowser, database: Database
) -> None:
    account = await make_account(database)
    row = await shop.order("25", organization_id=account.organization_id)
    name = external("topup", row.id)
    for path in (f"/billing/top-ups/{name}", f"/billing?top_up={name}", "/billing?top_up=topup_x"):
        assert (await browser.get(path)).status_code == 404, path


async def test_an_automatic_top_up_has_no_page_to_pay_it(shop: Shop, browser: FormBrowser) -> None:
    await ready(shop)
    await shop.worker().watch()
    (row,) = await automatic(shop)
    assert (await browser.get(f"/billing/top-ups/{external('topup', row.id)}")).status_code == 404
    assert (await shop.fresh(row)).session_id is None


@pytest.mark.browser
async def test_somebody_pays_in_a_browser_and_the_balance_rises_once(
    shop: Shop, site: RunningServer, chromium: Browser, database: Database
) -> None:
    worker = shop.worker()
    working = asyncio.create_task(worker.run())
    async with FormBrowser(site.url) as signed_in, opened(chromium, site) as watched:
        await sign_in_by_cookie(database, signed_in, shop.tenant.user_id)
        token = signed_in.http.cookies["farebox_session"]
        await watched.page.context.add_cookies([{"name": "farebox_session", "value": token, "url": site.url}])
        page = watched.page
        await page.goto("/billing")
        await expect(page.locator("#balance")).to_have_text("$0.00")
        await watched.assert_sound()
        await page.locator("#top-up-amount").fill("30.00")
        await page.get_by_role("button", name="Pay at Stripe").click()
        await page.wait_for_url(f"{shop.stripe.url}/c/pay/**")
        await page.get_by_role("button", name="Pay", exact=True).click()
        await page.wait_for_url("**/billing?top_up=*")
        # What a page asked for that was left at once, and Stripe's own pages, are of no matter.
        watched.faults.clear()
        await expect(page.get_by_role("status")).to_contain_text("$30.00 are in your balance")
        await expect(page.locator("#balance")).to_have_text("$30.00")
        await shop.told()
        await page.reload()
        await expect(page.locator("#balance")).to_have_text("$30.00")
        await watched.assert_sound()
    worker.stop()
    await working
    await shop.work()
    assert await shop.balance() == 30
