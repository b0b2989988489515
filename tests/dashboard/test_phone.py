"""Pages in a window of 390 px, with names that do not break: nothing is covered, cut off or unreachable."""

from decimal import Decimal
from typing import Any

import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import update

from farebox.auth import sessions
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.keys.models import ApiKey
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Organization, Project
from tests.dashboard.chromium import opened
from tests.gateway.servers import RunningServer
from tests.tenants.factories import Tenant, make_tenant
from tests.usage.usage_history import add_usage

pytestmark = pytest.mark.browser

NAME = "x" * 90
PAGES = ["/overview", "/keys", "/prices", "/limits", "/billing"]
# What can be seen or clicked: inside the window, and on top where its middle is.
LOOK = """
() => {
  const faults = [];
  const looked = "a, button, input, select, td, h1, h2, h3";
  for (const each of document.querySelectorAll(`main :is(${looked}), header :is(a, button)`)) {
    const hidden = each.closest(".visually-hidden, [popover], thead, [type=hidden]");
    if (hidden || !each.checkVisibility({visibilityProperty: true})) continue;
    each.scrollIntoView({block: "center", inline: "nearest", behavior: "instant"});
    const box = each.getBoundingClientRect();
    const name = `${each.tagName} ${(each.textContent || each.name).trim().slice(0, 30)}`;
    if (box.left < -0.5 || box.right > innerWidth + 0.5) {
      faults.push(`off-screen: ${name} ${box.left}-${box.right}`);
      continue;
    }
    const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    if (top && !each.contains(top) && !top.contains(each)) faults.push(`covered: ${name} by ${top.tagName}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is wider than the window");
  return faults;
}
"""
# What axe calls `heading-order` and `scrollable-region-focusable`.
STRUCTURE = """
() => {
  const faults = [];
  let before = 0;
  for (const each of document.querySelectorAll("h1, h2, h3, h4")) {
    if (each.closest("[popover]")) continue;
    const level = Number(each.tagName[1]);
    if (level > before + 1) faults.push(`${each.tagName} follows H${before}: ${each.textContent.trim()}`);
    before = level;
  }
  for (const each of document.querySelectorAll("main *")) {
    const style = getComputedStyle(each);
    const scrolls = ["auto", "scroll"].includes(style.overflowX) && each.scrollWidth > each.clientWidth
      || ["auto", "scroll"].includes(style.overflowY) && each.scrollHeight > each.clientHeight;
    if (scrolls && each.tabIndex < 0) faults.push(`scrolls without focus: ${each.className}`);
  }
  return faults;
}
"""


# What stands side by side in a form stands in one line, and a last row is as airy as the others.
ROWS = """
() => {
  const faults = [];
  for (const form of document.querySelectorAll("form.row")) {
    const controls = [...form.querySelectorAll("input:not([type=hidden]), select, button")];
    const boxes = controls.map((each) => each.getBoundingClientRect());
    for (const [i, box] of boxes.entries()) {
      const next = boxes[i + 1];
      if (next && next.left > box.left && Math.abs(next.top - box.top) > 1) {
        const name = controls[i + 1].name || "button";
        faults.push(`${form.action}: ${name} stands ${next.top - box.top} px lower`);
      }
    }
  }
  for (const table of document.querySelectorAll("table.stack")) {
    const rows = [...table.tBodies[0].rows].filter((each) => each.checkVisibility());
    const below = (each) => getComputedStyle(each).paddingBottom;
    const room = (row) => [...row.cells].slice(0, -1).map(below).join();
    if (innerWidth < 640 && new Set(rows.map(room)).size > 1) faults.push("the last row is narrower");
  }
  return faults;
}
"""


async def make_busy_tenant(database: Database, keyring: Keyring) -> Tenant:
    tenant = await make_tenant(database, keyring, balance=Decimal(1000))
    async with database.transaction(organization_id=tenant.organization_id) as session:
        for table in (Organization, Project, ApiKey):
            await session.execute(update(table).values(name=NAME))
    for tokens in (7, 123456):
        await add_usage(
            database,
            organization_id=tenant.organization_id,
            project_id=tenant.project_id,
            api_key_id=tenant.key_id,
            at=utc_now(),
            model="m" * 90,
            input_tokens=tokens,
            cached_input_tokens=tokens,
            output_tokens=tokens,
        )
    return tenant


@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_is_covered_or_cut_off(
    chromium: Browser, site: RunningServer, database: Database, keyring: Keyring, width: int
) -> None:
    tenant = await make_busy_tenant(database, keyring)
    async with database.transaction(user_id=tenant.user_id) as session:
        token = await sessions.create(session, tenant.user_id)
    options: dict[str, Any] = {"viewport": {"width": width, "height": 844}}
    async with opened(chromium, site, **options) as watched:
        page = watched.page
        await page.context.add_cookies([{"name": "farebox_session", "value": token, "url": site.url}])
        found = {}
        for path in PAGES:
            await page.goto(path)
            await page.evaluate(
                "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
            )
            found[path] = await page.evaluate(STRUCTURE) + await page.evaluate(LOOK)
            found[path] += await page.evaluate(ROWS)
        assert found == {path: [] for path in PAGES}
        await watched.assert_sound()


@pytest.mark.parametrize("width", [390, 1280])
async def test_what_is_told_of_a_field_moves_no_other(
    chromium: Browser, site: RunningServer, database: Database, keyring: Keyring, width: int
) -> None:
    tenant = await make_tenant(database, keyring)
    async with database.transaction(user_id=tenant.user_id) as session:
        token = await sessions.create(session, tenant.user_id)
    async with opened(chromium, site, viewport={"width": width, "height": 844}) as watched:
        page = watched.page
        await page.context.add_cookies([{"name": "farebox_session", "value": token, "url": site.url}])
        await page.goto("/limits")
        form = page.locator("form.row").first
        await form.get_by_label("Requests per minute").fill("ten")
        await form.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Write a whole number")).to_be_visible()
        assert await page.evaluate(ROWS) == []
