"""The key of an inference request, before anything else of it is looked at."""

from typing import Any

from litestar import Request

from farebox.core.http import StrictRequest
from farebox.keys.dependencies import bearer_token
from farebox.keys.tokens import KeyClaims, Keyring


async def verify_key(request: Request[Any, Any, Any]) -> None:
    """Before anything of the body is read: the token must be one of ours.

    Whether its row still opens anything is for admission, or `authenticate`, to say. Not a guard:
    Litestar copies the connection for those.
    """
    token = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
    keyring: Keyring = request.app.state.keyring
    request.scope["state"]["claims"] = await keyring.resolve(bearer_token(token.decode("latin-1")))


def claims_of(request: StrictRequest) -> KeyClaims:
    """What `verify_key` found."""
    claims: KeyClaims = request.scope["state"]["claims"]
    return claims
