"""Addresses that lead nowhere: a page for whoever browses, JSON for programs."""

import httpx
import pytest
from litestar import get
from litestar.testing import TestClient

from farebox.core.errors import FareboxError, Unavailable
from farebox.core.exchange import Application
from farebox.dashboard.errors import answer_error
from tests.dashboard.browsers import Markup, text_of
from tests.gateway.servers import RunningServer

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
PROGRAMS = [
    None,
    "*/*",
    "application/json",
    "application/json, text/html;q=0.5",
    "nonsense",
    "text/plain",
    "text/html;q=1e999",
    "text/html;q=-inf",
]


def ask(
    site: RunningServer, path: str, accept: str | None, *, method: str = "GET", key: str = ""
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=site.url, headers=headers) as client:
        client.headers.pop("accept")
        return client.request(method, path, headers={"accept": accept} if accept else {})


@pytest.mark.parametrize("path", ["/nothing/here", "/v1/nothing", "/schema/swagger", "/static/0/absent.js"])
def test_a_browser_gets_a_page(site: RunningServer, path: str) -> None:
    answer = ask(site, path, CHROMIUM)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "Accept" in answer.headers["vary"]
    assert "Not found" in text_of(answer.text)
    assert answer.headers["x-request-id"] in answer.text
    assert Markup(answer.text).inline == []


@pytest.mark.parametrize("accept", PROGRAMS)
def test_a_program_gets_json(site: RunningServer, accept: str | None) -> None:
    answer = ask(site, "/nothing/here", accept)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert "Accept" in answer.headers["vary"]
    assert answer.json()["error"]["code"] == "not_found"


def test_a_wrong_method(site: RunningServer) -> None:
    answer = ask(site, "/v1/chat/completions", CHROMIUM)
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    assert "<h1>Not found</h1>" in answer.text
    assert ask(site, "/v1/chat/completions", None).json()["error"]["code"] == "method_not_allowed"


@get("/away")
async def away() -> None:
    raise Unavailable("The database is not reachable; please try again.")


@get("/broken")
async def broken() -> None:
    raise RuntimeError("nobody shall read this")


@pytest.mark.parametrize(
    ("path", "status", "heading", "code"),
    [
        ("/away", 503, "Back in a moment", "service_unavailable"),
        ("/broken", 500, "Something went wrong", "internal_error"),
    ],
)
def test_away_and_broken(path: str, status: int, heading: str, code: str) -> None:
    """Under the application's handler, routes that fail in the two ways in which all may."""
    app = Application(
        [away, broken],
        exception_handlers={FareboxError: answer_error, Exception: answer_error},
        openapi_config=None,
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        page = client.get(path, headers={"accept": CHROMIUM})
        told = client.get(path)
    assert page.status_code == told.status_code == status
    assert heading in text_of(page.text)
    assert "nobody" not in page.text + told.text
    assert told.json()["error"]["code"] == code
    assert ("retry-after" in page.headers) == ("retry-after" in told.headers) == (status == 503)


def test_other_refusals_stay_json(site: RunningServer) -> None:
    """Somebody who opens an address of the API without a key sees what a program would."""
    answer = ask(site, "/v1/models", CHROMIUM)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
