"""A real Chromium, and pages that report whatever goes wrong on them."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.gateway.servers import RunningServer
from tests.tenants.factories import an_address

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI || event.sample}`));
"""


@dataclass
class Watched:
    """A page and everything that went wrong on it."""

    page: Page
    faults: list[str] = field(default_factory=list)

    async def assert_sound(self) -> None:
        assert self.faults == []
        assert await self.page.evaluate("window.violations") == []

    def note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    path = os.environ.get("FAREBOX_CHROMIUM") or shutil.which("chromium")
    if path is None:
        complaint = "Chromium is missing: `apt-get install chromium`, or name it in FAREBOX_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(complaint)
        pytest.skip(complaint)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(chromium: Browser, site: RunningServer, **options: Any) -> AsyncIterator[Watched]:
    context = await chromium.new_context(
        base_url=site.url, extra_http_headers={"x-forwarded-for": an_address()}, **options
    )
    context.set_default_timeout(20_000)
    await context.add_init_script(REPORT_VIOLATIONS)
    page = await context.new_page()
    watched = Watched(page)
    page.on("console", watched.note)
    page.on("pageerror", lambda error: watched.faults.append(str(error)))
    page.on("requestfailed", lambda request: watched.faults.append(f"failed: {request.url}"))
    yield watched
    await context.close()
