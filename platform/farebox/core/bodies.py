"""Request bodies, forms and cookies: read to a bound, and decoded strictly."""

from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.datastructures import FormMultiDict
from litestar.enums import RequestEncodingType
from litestar.types import Empty, Receive, Scope

from farebox.core.errors import (
    BadRequest,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from farebox.core.strict_json import StrictDecoder

MAX_BODY_BYTES = 1_000_000

# The longest form that a page accepts has five fields of 1,000 characters, of up to 12 bytes each. So has the
# JSON that programs send in its place.
MAX_FORM_BYTES = 65_536
MAX_FORM_FIELDS = 50

# More than a browser keeps for one site.
MAX_COOKIES = 200

# Above this, decoding takes milliseconds and moves to the tenants' threads.
LARGE_BODY_BYTES = 32_768

JSON = b"application/json"


class ClientGone(BadRequest):
    """The client hung up while its request was being read; nobody sees this answer."""

    code = "client_gone"


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body is read strictly (see `core.strict_json`) as the handler's `data`.

    Forms and cookies are parsed here: Litestar keeps the last 1,024 that it has parsed, in full, and in them
    passwords and sessions.
    """

    async def stream(self) -> Any:
        """The whole body as one piece: bodies are small here (see `body`)."""
        yield await self.body()

    async def body(self) -> bytes:
        """The whole body, of at most MAX_FORM_BYTES: nobody may have more decoded on the event loop.

        See `read_body`.
        """
        if self._body is Empty:
            expected = _media_type(self.route_handler)
            self._body = await read_body(self.scope, self.receive, expected, at_most=MAX_FORM_BYTES)
        return self._body

    async def form(self) -> FormMultiDict:
        """The fields of a URL-encoded form; of any other body none.

        Raises PayloadTooLarge above MAX_FORM_BYTES, BadRequest above MAX_FORM_FIELDS, and as `read_body`.
        """
        if self._form is Empty:
            self._form = FormMultiDict(await self._form_fields())
        return self._form

    async def _form_fields(self) -> list[tuple[str, str]]:
        if self.content_type[0] != RequestEncodingType.URL_ENCODED:
            return []
        try:
            text = (await self.body()).decode("latin-1")
            return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        except ValueError:
            raise BadRequest("The form has too many fields.", code="invalid_request") from None

    @property
    def cookies(self) -> dict[str, str]:
        """The first MAX_COOKIES cookies, as they were sent: our own need no decoding."""
        if self._cookies is Empty:
            pairs = self.headers.get("cookie", "").split(";", MAX_COOKIES)[:MAX_COOKIES]
            named = (pair.partition("=") for pair in pairs)
            self._cookies = {name.strip(): value.strip() for name, equals, value in named if equals}
        return self._cookies

    async def json(self) -> Any:
        """The body as the type of the handler's `data` parameter.

        Raises what `body` raises, and MalformedJson, InvalidField and TooManyValues.
        """
        kind = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return _decoder(kind).decode(await self.body())


def _ignore(_: int) -> None:
    """Nobody counts how much of a body there is."""


async def read_body(
    scope: Scope,
    receive: Receive,
    expected: bytes | None = JSON,
    *,
    at_most: int = MAX_BODY_BYTES,
    note: Callable[[int], None] = _ignore,
) -> bytes:
    """The whole body of a request, of `at_most` so many bytes; one that announces more is refused unread.

    `note` is told after each piece how many bytes there are. Raises UnsupportedMediaType first where the
    media type is not `expected` (None: any will do), PayloadTooLarge, ClientGone when the client leaves
    meanwhile, which is no server error, and what `note` raises.
    """
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = media_type or value
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise UnsupportedMediaType(
                "The body is compressed; send it as it is, without `Content-Encoding`.",
                code="unsupported_media_type",
            )
        elif name == b"content-length" and value.isdigit() and int(value) > at_most:
            raise body_too_large(at_most)
    if expected is not None and media_type.split(b";", 1)[0].strip().lower() != expected:
        raise UnsupportedMediaType(
            f"The body must be sent as `Content-Type: {expected.decode()}`.",
            code="unsupported_media_type",
        )
    body, more = b"", True
    while more:
        message: Any = await receive()
        body += message.get("body", b"")
        if len(body) > at_most:
            raise body_too_large(at_most)
        note(len(body))
        more = message["type"] == "http.request" and message.get("more_body", False)
    if message["type"] == "http.disconnect":
        raise ClientGone("The client disconnected.")
    return body


def announced_bytes(scope: Scope) -> int | None:
    """How large a request's body is by its own account; None where it comes in chunks and does not say."""
    chunked = False
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return min(int(value), MAX_BODY_BYTES)
        chunked = chunked or name == b"transfer-encoding"
    return None if chunked else 0


@cache
def _decoder(kind: Any) -> StrictDecoder[Any]:
    return StrictDecoder(kind)


@cache
def _media_type(handler: Any) -> bytes | None:
    """What a handler's body must be; None for one that takes none."""
    data = handler.parsed_fn_signature.parameters.get("data")
    if data is None:
        return None
    definition = data.kwarg_definition
    media_type = getattr(definition, "media_type", None) or "application/json"
    return str(getattr(media_type, "value", media_type)).encode()


def body_too_large(at_most: int = MAX_BODY_BYTES) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {at_most} bytes.", code="request_too_large")
