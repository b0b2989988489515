"""What is said about a key that does not open the door."""

from farebox.core.errors import BadRequest, Forbidden, Unauthenticated


class DuplicateHeader(BadRequest):
    """Two keys came with one request: a proxy before us may have picked another one than we."""

    code = "duplicate_header"

    def __init__(self) -> None:
        super().__init__("Send one `Authorization` header.")


class InvalidApiKey(Unauthenticated):
    """The one answer to every bad key.

    Malformed, forged, expired, revoked, of an archived project or a suspended organization: the
    caller learns only that it did not work, so the answer is no oracle.
    """

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "The API key is missing, malformed, expired or revoked.",
            headers={"WWW-Authenticate": "Bearer"},
        )


class InsufficientScope(Forbidden):
    """The key is good but was not made for this."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key lacks the scope `{scope}`.")
