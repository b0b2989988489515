"""Keys through their service: shown once, judged by their row."""

import pytest

from farebox.core.database import Database
from farebox.keys.errors import InvalidApiKey
from farebox.keys.service import authenticate, revoke_key
from tests.tenants.factories import make_keyring, make_tenant


async def test_a_key_opens_until_it_is_revoked(database: Database) -> None:
    keyring = await make_keyring(database)
    tenant = await make_tenant(database, keyring)
    claims = keyring.verify(tenant.api_key)
    principal = await authenticate(database, claims)
    assert principal.organization_id == tenant.organization_id
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await revoke_key(
            session, organization_id=tenant.organization_id, key_id=tenant.key_id, actor_id=tenant.user_id
        )
    with pytest.raises(InvalidApiKey):
        await authenticate(database, keyring.verify(tenant.api_key))
