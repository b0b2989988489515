"""Leave for web pages of other origins to call the API (Fetch standard, section 3.3), by a setting.

Credentials of a browser's own are never allowed: a page brings its key in `Authorization`.
"""

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

# The wildcard does not cover `Authorization`, which has to be named.
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, *"),
    (b"access-control-max-age", b"600"),
]


def cors_headers(origins: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What a response on `path` says to a page; `origins` is the setting: `*`, or a list split by commas."""
    if not origins or not path.startswith("/v1/"):
        return []
    allowed = {each.strip().rstrip("/") for each in origins.split(",")}
    origin = next((value for name, value in headers if name == b"origin"), None)
    vary = (b"vary", b"Origin")
    if origin is None or not ("*" in allowed or origin.decode("latin-1") in allowed):
        return [vary]
    granted = b"*" if "*" in allowed else origin
    return [
        vary,
        (b"access-control-allow-origin", granted),
        (b"access-control-expose-headers", b"*"),
    ]


def preflight_headers(method: str, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What the answer to a preflight says beside; empty where the request is none."""
    asks = method == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in headers)
    return _PREFLIGHT if asks else []
