"""Keys over HTTP: the published set, the bearer header, scopes, one body for every refusal."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from jwt import PyJWKSet
from litestar import get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide

from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.error_answers import error_response
from farebox.core.errors import FareboxError
from farebox.core.exchange import Application
from farebox.core.ids import external
from farebox.keys.dependencies import provide_principal, require_scope
from farebox.keys.receipt_keys import ReceiptKeys
from farebox.keys.routes import router
from farebox.keys.service import Principal, revoke_key
from farebox.keys.tokens import Keyring
from tests.keys.forge import Forge
from tests.keys.test_tokens import FORGERIES
from tests.tenants.factories import SETTINGS, make_key, make_tenant


@get("/mine", dependencies={"principal": Provide(provide_principal)})
async def mine(principal: NamedDependency[Principal]) -> str:
    return external("org", principal.organization_id)


@get("/admin", dependencies={"principal": Provide(require_scope("admin"))})
async def admin(principal: NamedDependency[Principal]) -> str:
    return external("org", principal.organization_id)


def provide(name: str) -> Provide:
    def provide(state: State) -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)


@pytest.fixture
async def receipt_keys(database: Database) -> ReceiptKeys:
    return await ReceiptKeys.load(database, SETTINGS)


@pytest.fixture
async def client(
    database: Database, keyring: Keyring, receipt_keys: ReceiptKeys
) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = Application(
        route_handlers=[router, mine, admin],
        request_class=StrictRequest,
        exception_handlers={FareboxError: error_response},
        dependencies={name: provide(name) for name in ("database", "keyring", "receipt_keys")},
        state=State({"database": database, "keyring": keyring, "receipt_keys": receipt_keys}),
        logging_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://farebox") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_the_key_set_is_what_other_libraries_read(
    client: httpx.AsyncClient, keyring: Keyring, receipt_keys: ReceiptKeys
) -> None:
    response = await client.get("/.well-known/jwks.json")
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert response.headers["cache-control"] == "public, max-age=300"
    key_set = PyJWKSet.from_dict(response.json())
    expected = [*keyring.jwks()["keys"], *receipt_keys.jwks()]
    assert [key.key_id for key in key_set.keys] == [jwk["kid"] for jwk in expected]
    assert receipt_keys.jwks()


async def test_a_key_opens_its_own_organization(
    client: httpx.AsyncClient, database: Database, keyring: Keyring
) -> None:
    tenant = await make_tenant(database, keyring)
    for header in (f"Bearer {tenant.api_key}", f"bearer  {tenant.api_key} "):
        response = await client.get("/mine", headers={"Authorization": header})
        assert (response.status_code, response.text) == (200, external("org", tenant.organization_id))


async def test_a_scope_that_the_key_lacks_is_named(
    client: httpx.AsyncClient, database: Database, keyring: Keyring
) -> None:
    tenant = await make_tenant(database, keyring)
    plain = await make_key(database, keyring, tenant, scopes=["inference"])
    assert (await client.get("/admin", headers=bearer(tenant.api_key))).status_code == 200
    response = await client.get("/admin", headers=bearer(plain.token))
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "insufficient_scope"
    assert "admin" in response.json()["error"]["message"]


async def test_every_refusal_has_the_same_body(
    client: httpx.AsyncClient, database: Database, keyring: Keyring
) -> None:
    tenant = await make_tenant(database, keyring)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await revoke_key(session, organization_id=tenant.organization_id, key_id=tenant.key_id, actor_id=None)
    forge = await Forge.open(database)
    forged = [make(forge) for name, make in FORGERIES.items() if name != "five megabytes"]
    sendable = [token for token in forged if token.strip() == token and token.isascii()]
    tokens = [tenant.api_key, forge.token(forge.header(), forge.claims()), *sendable]
    headers: list[dict[str, str]] = [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}]
    headers += map(bearer, tokens)
    answers = set()
    for header in headers:
        response = await client.get("/mine", headers=header)
        error = response.json()["error"]
        assert error.pop("request_id") == response.headers["x-request-id"]
        answers.add((response.status_code, response.headers["www-authenticate"], str(error)))
    assert len(answers) == 1
    assert next(iter(answers))[:2] == (401, "Bearer")
