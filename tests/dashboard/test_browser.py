"""The main job in a real browser: sign up, make a key, call the API with it, see what it cost."""

import re
from decimal import Decimal

import pytest
from openai import AsyncOpenAI, AuthenticationError
from playwright.async_api import Browser, Page, expect
from sqlalchemy import select

from farebox.billing.funds import top_up
from farebox.core.database import Database
from farebox.core.money import plain
from farebox.tenants.models import Membership, User
from tests.dashboard.chromium import opened
from tests.gateway.servers import RunningServer
from tests.tenants.factories import an_email

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


async def sign_up_and_in(page: Page, email: str) -> None:
    await page.goto("/")
    await page.get_by_role("link", name="Create an account").click()
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("Organization").fill("Northwind")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await page.get_by_role("link", name="To sign-in").click()
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()


async def fund(database: Database, email: str) -> None:
    """Ten dollars, as the operator would add them."""
    async with database.transaction(email=email) as session:
        user_id = await session.scalar(select(User.id).where(User.email == email))
    async with database.transaction(user_id=user_id) as session:
        organization_id = await session.scalar(
            select(Membership.organization_id).where(Membership.user_id == user_id)
        )
    assert organization_id is not None
    async with database.meter_transaction() as session:
        await top_up(
            session,
            organization_id=organization_id,
            amount=Decimal(10),
            currency="USD",
            reference="browser test",
        )


async def test_from_sign_up_to_what_it_cost(
    chromium: Browser, site: RunningServer, database: Database, offered_model: str
) -> None:
    email = an_email()
    async with opened(chromium, site, permissions=["clipboard-read", "clipboard-write"]) as watched:
        page = watched.page
        await sign_up_and_in(page, email)
        await expect(page.get_by_text("Make the first call")).to_be_visible()
        await fund(database, email)
        key = await make_key(page)
        await watched.assert_sound()
        async with AsyncOpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0) as client:
            answer = await client.chat.completions.create(
                model=offered_model, messages=[{"role": "user", "content": "Hello!"}], max_tokens=5
            )
            assert answer.usage is not None
            cost = cost_of(answer.usage.prompt_tokens, answer.usage.completion_tokens)
            await page.get_by_role("link", name="Overview").click()
            await expect(page.locator("#requests-today")).to_have_text("1")
            await expect(page.locator("#tokens-today")).to_have_text(str(answer.usage.total_tokens))
            await expect(page.locator("#spend-today")).to_have_attribute("title", cost)
            await expect(page.locator("table.requests td.cost")).to_have_text(cost)
            await look_at_the_chart(page)
            await watched.assert_sound()
            await revoke_key(page)
            with pytest.raises(AuthenticationError):
                await client.models.list()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await watched.assert_sound()


async def make_key(page: Page) -> str:
    await page.get_by_role("link", name="API keys").click()
    await page.get_by_label("Name").fill("laptop")
    await page.get_by_role("button", name="Make key").click()
    key = await page.locator("#new-key").inner_text()
    assert key.startswith("fb_live_")
    await page.get_by_role("button", name="Copy key").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == key
    await page.reload()
    await expect(page.locator("#new-key")).to_have_count(0)
    assert key not in await page.content()
    return key


async def look_at_the_chart(page: Page) -> None:
    """The range changes in place, and the address with it."""
    await expect(page.locator(".bar")).to_have_count(24)
    await page.get_by_role("link", name="30 days").click()
    await expect(page.get_by_role("heading", name="Usage by day")).to_be_visible()
    await page.get_by_role("link", name="Requests", exact=True).click()
    await expect(page).to_have_url(re.compile("span=30d&show=requests"))
    await expect(page.locator(".bar")).to_have_count(30)
    await expect(page.locator(".bar title").last).to_have_text(re.compile(r"\d{4}: 1$"))


async def revoke_key(page: Page) -> None:
    await page.get_by_role("link", name="API keys").click()
    await page.get_by_role("button", name="Revoke laptop").click()
    await page.get_by_role("button", name="Keep it").click()
    await expect(page.get_by_role("button", name="Revoke key")).to_be_hidden()
    await page.get_by_role("button", name="Revoke laptop").click()
    await page.get_by_role("button", name="Revoke key").click()
    await expect(page.get_by_text("Revoked and expired keys (1)")).to_be_visible()


async def test_it_works_without_scripts(chromium: Browser, site: RunningServer) -> None:
    async with opened(chromium, site, java_script_enabled=False) as watched:
        page = watched.page
        await sign_up_and_in(page, an_email())
        await page.get_by_role("link", name="30 days").click()
        await expect(page.get_by_role("heading", name="Usage by day")).to_be_visible()
        await page.get_by_role("link", name="API keys").click()
        await page.get_by_label("Name").fill("laptop")
        await page.get_by_role("button", name="Make key").click()
        assert (await page.locator("#new-key").inner_text()).startswith("fb_live_")
        await page.get_by_role("button", name="Revoke laptop").click()
        await page.get_by_role("button", name="Revoke key").click()
        await expect(page.get_by_text("Revoked and expired keys (1)")).to_be_visible()
        assert watched.faults == []


async def test_nothing_is_cut_off_on_a_phone(chromium: Browser, site: RunningServer) -> None:
    async with opened(chromium, site, viewport={"width": 360, "height": 740}) as watched:
        await sign_up_and_in(watched.page, an_email())
        for path in ("/overview", "/keys", "/limits", "/billing"):
            await watched.page.goto(path)
            width = await watched.page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, path
        await watched.assert_sound()


def cost_of(input_tokens: int, output_tokens: int) -> str:
    """At one dollar per million input tokens and two per million output tokens."""
    return "$" + plain((Decimal(input_tokens) + 2 * Decimal(output_tokens)).scaleb(-6))
