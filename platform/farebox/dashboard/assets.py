"""The pages' own CSS, scripts and icon: read once, served from memory under their content's hash."""

import asyncio
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from litestar import Response, get
from litestar.connection import Request
from litestar.params import FromPath

from farebox.core.errors import NotFound

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_FILES = {
    entry.name: entry.read_bytes()
    for entry in (files("farebox.dashboard") / "static").iterdir()
    if entry.is_file()
}
# The reference's script is 1.7 MB; an inference server's own pages need no more than this one encoding.
_WORTH_COMPRESSING = 20_000
_HASHES = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in _FILES.items()}


def asset_url(name: str) -> str:
    """Where a page finds an asset; the address changes with the content, so it may be kept for ever."""
    return f"/static/{_HASHES[name]}/{name}"


# The names are looked up in a dictionary: there is no path that could lead out of the folder.
@get("/static/{digest:str}/{name:str}", include_in_schema=False)
async def asset(
    request: Request[Any, Any, Any], digest: FromPath[str], name: FromPath[str]
) -> Response[bytes]:
    if _HASHES.get(name) != digest:
        raise NotFound("No such file.", code="not_found")
    content = _FILES[name]
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if len(content) >= _WORTH_COMPRESSING:
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            content = await asyncio.to_thread(_compressed, name)
    return Response(content, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress(_FILES[name], mtime=0)
