"""Static files: kept for ever under their content's hash, large ones sent compressed to who takes it."""

import gzip

import httpx
import pytest

from farebox.dashboard.assets import asset_url
from tests.gateway.servers import RunningServer


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css", "htmx.min.js"])
def test_a_large_file_is_compressed(site: RunningServer, name: str) -> None:
    plain, sent_plain = fetch(site, name, "identity")
    packed, sent_packed = fetch(site, name, "gzip, br")
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert "immutable" in packed.headers["cache-control"]
    assert gzip.decompress(sent_packed) == sent_plain
    assert len(sent_packed) < len(sent_plain) / 2


def test_a_small_file_is_not(site: RunningServer) -> None:
    answer, _ = fetch(site, "copy.js", "gzip")
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("name", ["swagger-ui.LICENSE.txt", "swagger-ui-bundle.js.LICENSE.txt"])
def test_the_licences_are_served_beside(site: RunningServer, name: str) -> None:
    assert fetch(site, name, "identity")[0].headers["content-type"].startswith("text/plain")


def fetch(site: RunningServer, name: str, encoding: str) -> tuple[httpx.Response, bytes]:
    """The response and its bytes as sent, still compressed."""
    url = site.url + asset_url(name)
    with httpx.stream("GET", url, headers={"accept-encoding": encoding}) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.status_code == 200
    return answer, sent
