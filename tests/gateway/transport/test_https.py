"""Behind https, browsers are told to come by https only."""

from pathlib import Path

import httpx

from tests.gateway.servers import ServerThread, make_settings


async def test_hsts_goes_with_an_https_address(database_url: str, tmp_path: Path) -> None:
    for address, expected in (("https://farebox.example", "max-age=31536000"), ("http://10.0.0.7", None)):
        settings = make_settings(tmp_path, base_url=address)
        thread = ServerThread(settings, database_url, None)
        server = thread.start()
        try:
            async with httpx.AsyncClient(base_url=server.url) as client:
                for path in ("/livez", "/nothing", "/sign-in"):
                    assert (await client.get(path)).headers.get("strict-transport-security") == expected
        finally:
            thread.stop()
