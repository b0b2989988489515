"""The API reference in a real browser: all operations, under the strict policy, and a call that answers."""

import json
import re

import pytest
from playwright.async_api import Browser, Page, expect

from tests.dashboard.browsers import Member
from tests.dashboard.chromium import opened
from tests.gateway.servers import RunningServer

pytestmark = pytest.mark.browser


async def test_it_shows_every_operation_that_a_customer_calls(chromium: Browser, site: RunningServer) -> None:
    async with opened(chromium, site) as watched:
        page = watched.page
        document = await (await page.request.get("/schema")).json()
        tags = {
            each["operationId"]: each["tags"][0]
            for path in document["paths"].values()
            for each in path.values()
        }
        called = {name for name, tag in tags.items() if tag not in ("Accounts", "Operations")}
        assert len(called) < len(tags)
        await page.goto("/docs")
        await expect(page.locator(".opblock")).to_have_count(len(called))
        for name in called:
            await expect(page.locator(f"#operations-{tags[name]}-{name}")).to_be_visible()
        await expect(page.get_by_text("/auth/", exact=False)).to_have_count(0)
        await expect(page.get_by_text("/readyz", exact=False)).to_have_count(0)
        await expect(page.get_by_text("/v1/chat/completions", exact=True)).to_be_visible()
        await expect(page.locator(".errors-wrapper")).to_have_count(0)  # Swagger UI's own judgement
        await watched.assert_sound()


async def test_it_has_the_menu_of_the_dashboard(
    chromium: Browser, site: RunningServer, owner: Member
) -> None:
    page_of_keys = (await owner.browser.get("/keys")).text
    async with opened(chromium, site) as watched:
        await watched.page.goto("/docs")
        links = await watched.page.get_by_role("navigation", name="Main").get_by_role("link").all()
        paths = [await link.get_attribute("href") for link in links]
        assert paths == re.findall(r'<a href="([^"]+)"', page_of_keys.split("<nav")[1].split("</nav>")[0])
        assert await links[-1].get_attribute("aria-current") == "page"


async def test_a_call_is_made_from_the_page(
    chromium: Browser, site: RunningServer, owner: Member, offered_model: str
) -> None:
    async with opened(chromium, site) as watched:
        page = watched.page
        await page.goto("/docs")
        await authorize(page, owner.tenant.api_key)
        block = page.locator("#operations-Chat-createChatCompletion")
        await block.locator(".opblock-summary-control").click()
        await block.locator("textarea.body-param__text").fill(
            json.dumps(
                {
                    "model": offered_model,
                    "max_tokens": 3,
                    "messages": [{"role": "user", "content": "Hi"}],
                }
            )
        )
        await block.get_by_role("button", name="Execute").click()
        live = block.locator(".live-responses-table")
        await expect(live.locator(".response-col_status").last).to_have_text(re.compile("^200"))
        await expect(live.locator(".response-col_description").last).to_contain_text('"chat.completion"')
        await expect(live).to_contain_text("x-request-id")
        await watched.assert_sound()


# What has no name for those who hear the page, and what cannot be reached by keys.
NAMELESS = """
() => {
  const faults = [];
  for (const each of document.querySelectorAll("#reference :is(select, textarea, input)")) {
    const named = each.labels?.length || each.ariaLabel || !each.checkVisibility();
    if (!named) faults.push(each.outerHTML.slice(0, 80));
  }
  for (const each of document.querySelectorAll("button :is(a[href], button, [tabindex])")) {
    faults.push(`within a button: ${each.outerHTML.slice(0, 80)}`);
  }
  for (const each of document.querySelectorAll(".microlight")) {
    const scrolls = each.scrollHeight > each.clientHeight;
    if (scrolls && each.tabIndex < 0) faults.push("an example that keys cannot scroll");
  }
  return faults;
}
"""


async def test_all_of_it_can_be_heard_and_reached_by_keys(chromium: Browser, site: RunningServer) -> None:
    async with opened(chromium, site) as watched:
        page = watched.page
        await page.goto("/docs")
        block = page.locator("#operations-Chat-createChatCompletion")
        await block.locator(".opblock-summary-control").click()
        await expect(block.get_by_role("textbox", name="Body of the request")).to_be_visible()
        await expect(block.get_by_role("combobox", name="Media type").first).to_be_visible()
        await expect(block.locator(".microlight[tabindex='0']").first).to_be_visible()
        assert await page.evaluate(NAMELESS) == []
        await expect(page.get_by_role("main")).to_have_count(1)
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)
        await expect(page.locator("#operations-tag-Chat")).to_have_attribute("aria-level", "2")
        await watched.assert_sound()


async def test_a_wrong_key_is_told_so(chromium: Browser, site: RunningServer) -> None:
    async with opened(chromium, site) as watched:
        page = watched.page
        await page.goto("/docs")
        await authorize(page, "fb_live_nonsense")
        block = page.locator("#operations-Models-listModels")
        await block.locator(".opblock-summary-control").click()
        await block.get_by_role("button", name="Execute").click()
        await expect(block.locator(".live-responses-table")).to_contain_text("invalid_api_key")
        assert await page.evaluate("window.violations") == []


async def test_it_fits_a_phone_and_a_dark_room(chromium: Browser, site: RunningServer) -> None:
    async with opened(chromium, site, viewport={"width": 360, "height": 740}, color_scheme="dark") as watched:
        page = watched.page
        await page.goto("/docs")
        await page.locator("#operations-Chat-createChatCompletion .opblock-summary-control").click()
        await expect(page.get_by_role("button", name="Execute")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await expect(page.locator("html")).to_have_class("dark-mode")
        await watched.assert_sound()


async def authorize(page: Page, key: str) -> None:
    await page.locator(".scheme-container").get_by_role("button", name="Authorize").click()
    dialog = page.locator(".dialog-ux")
    await dialog.get_by_role("textbox").fill(key)
    await dialog.get_by_role("button", name="Apply credentials").click()
    await dialog.locator(".btn-done").click()
