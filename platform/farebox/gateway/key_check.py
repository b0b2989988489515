"""The key of a request to `/v1`, before anything else of it is looked at."""

from typing import Any

from litestar import Request
from litestar.types import Scope

from farebox.core.bodies import StrictRequest
from farebox.keys.dependencies import bearer_token, one_authorization
from farebox.keys.tokens import KeyClaims, Keyring


async def verify_key(scope: Scope) -> KeyClaims:
    """What the token of a request says. It must be one of ours: raises InvalidApiKey, and
    DuplicateHeader.

    Whether its row still opens anything is for admission, or `authenticate`, to say.
    """
    found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    keyring: Keyring = scope["litestar_app"].state.keyring
    return await keyring.resolve(bearer_token(one_authorization(found)))


async def require_key(request: Request[Any, Any, Any]) -> None:
    """`verify_key` for a router's `before_request`. Not a guard: Litestar copies the connection for those."""
    request.scope["state"]["claims"] = await verify_key(request.scope)


def claims_of(request: StrictRequest) -> KeyClaims:
    """What `require_key` found."""
    claims: KeyClaims = request.scope["state"]["claims"]
    return claims
