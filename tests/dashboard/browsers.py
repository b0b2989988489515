"""A browser as far as forms go: cookies, hidden fields, the Origin header. No scripts."""

from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from typing import Any, Self
from uuid import UUID

import httpx

from farebox.auth import sessions
from farebox.core.database import Database
from tests.tenants.factories import Tenant, an_address
from tests.waiting import WAIT_SECONDS


@dataclass
class Member:
    """Somebody signed in, and the tenant they belong to."""

    browser: "FormBrowser"
    tenant: Tenant


class FormBrowser:
    """Gets pages and sends their forms; each browser has a network address of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(
            base_url=url, headers={"x-forwarded-for": an_address()}, timeout=WAIT_SECONDS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    async def submit(self, page: str, action: str, **fields: str) -> httpx.Response:
        """Open a page, fill in the form that goes to `action`, send it."""
        forms = Forms((await self.get(page)).text).found
        hidden = next(each for target, each in forms if target == action)
        return await self.post(action, hidden | fields)

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        return await self.http.post(path, data=fields, headers={"origin": self.url} | headers)


class Forms(HTMLParser):
    """The forms of a page: where each goes, and what its hidden and chosen fields say."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self._select: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((given["action"], {}))
        elif tag == "input" and self.found and "disabled" not in given:
            self.found[-1][1][given["name"]] = given.get("value", "")
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and self.found:
            fields = self.found[-1][1]
            if self._select not in fields or "selected" in given:
                fields[self._select] = given["value"]


class Markup(HTMLParser):
    """What a strict Content-Security-Policy would refuse in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label":
            self.labelled.add(str(given.get("for")))
        if tag in ("input", "select") and given.get("type") != "hidden":
            self.fields.append(str(given.get("id")))


async def sign_in_by_cookie(database: Database, browser: FormBrowser, user_id: UUID) -> None:
    """Open a session without the 30 ms that a password hash takes."""
    async with database.transaction(user_id=user_id) as session:
        token = await sessions.create(session, user_id)
    browser.http.cookies.set("farebox_session", token)


def text_of(html: str) -> str:
    """The page's words, without tags, for looking whether something is said."""

    class Words(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.words: list[str] = []

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    parser = Words()
    parser.feed(html)
    return " ".join(unescape(" ".join(parser.words)).split())
