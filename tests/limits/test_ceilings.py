"""An operator's ceilings: judged when a limit is set, and held by what was set before."""

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from farebox.cli.assembly import make_worker
from farebox.core.database import Database
from farebox.core.errors import BadRequest, Conflict, NotFound
from farebox.core.ids import external, new_id
from farebox.keys.service import create_key, find_key
from farebox.keys.tokens import Keyring
from farebox.limits.ceilings import Lowered, hold_ceilings, set_ceilings
from farebox.limits.service import Ceilings, InvalidLimit, LimitChange, get_limits, set_limits
from farebox.tenants.audit import list_events
from farebox.tenants.ceilings import CeilingChange, OwnCeilings
from farebox.tenants.organizations import create_project
from tests.tenants.factories import SETTINGS, Tenant, make_key, make_keyring, make_tenant

LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")


@pytest.fixture
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture
async def tenant(database: Database, keyring: Keyring) -> Tenant:
    return await make_tenant(database, keyring)


async def set_them(database: Database, tenant: Tenant, **change: int | list[str] | None) -> list[Lowered]:
    async with database.meter_transaction() as session:
        own, lowered = await set_ceilings(
            session,
            tenant.organization_id,
            CeilingChange(**change),  # type: ignore[arg-type]
            SETTINGS,
        )
    assert {name: getattr(own, name) for name in change} == change
    return lowered


async def limit(database: Database, tenant: Tenant, kind: str, **limits: Any) -> None:
    """As the tenant's own page sets limits, of the organization, its project or its key."""
    scope = getattr(tenant, f"{kind}_id")
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await set_limits(session, tenant.organization_id, scope, LimitChange(**limits), Ceilings.of(SETTINGS))


async def limits_of(database: Database, tenant: Tenant, name: str) -> list[int | None]:
    """Of organization, project and key."""
    async with database.transaction(organization_id=tenant.organization_id) as session:
        return [
            getattr(await get_limits(session, tenant.organization_id, scope), name)
            for scope in (tenant.organization_id, tenant.project_id, tenant.key_id)
        ]


@pytest.mark.parametrize("name", LIMITS)
async def test_a_ceiling_lowers_at_once_what_is_above_and_tells_it(
    database: Database, tenant: Tenant, name: str
) -> None:
    await limit(database, tenant, "project", **{name: 500})
    await limit(database, tenant, "key", **{name: 50})
    lowered = await set_them(database, tenant, **{f"max_{name}": 100})
    assert {(each.id, each.limit, each.before, each.now) for each in lowered} == {
        (external("org", tenant.organization_id), name, None, 100),
        (external("proj", tenant.project_id), name, 500, 100),
    }
    assert await limits_of(database, tenant, name) == [100, 100, 50]
    assert await set_them(database, tenant, **{f"max_{name}": 100}) == []
    async with database.transaction(organization_id=tenant.organization_id) as session:
        latest = (await list_events(session, tenant.organization_id))[0]
    assert (latest.action, latest.actor_id, latest.detail) == (
        "ceilings.changed",
        None,
        {f"max_{name}": 100},
    )


@pytest.mark.parametrize("name", LIMITS)
async def test_a_ceiling_of_its_own_is_judged_instead_of_the_setting(
    database: Database, tenant: Tenant, name: str
) -> None:
    most = getattr(SETTINGS, f"max_{name}")
    with pytest.raises(InvalidLimit, match=f" {most}"):
        await limit(database, tenant, "project", **{name: most + 1})
    await set_them(database, tenant, **{f"max_{name}": most + 1})
    await limit(database, tenant, "project", **{name: most + 1})
    await set_them(database, tenant, **{f"max_{name}": 7})
    with pytest.raises(InvalidLimit, match=" 7"):
        await limit(database, tenant, "key", **{name: 8})
    await limit(database, tenant, "key", **{name: 7})


async def test_who_lifts_the_organizations_limit_comes_to_its_ceiling(
    database: Database, tenant: Tenant
) -> None:
    await set_them(database, tenant, max_requests_per_minute=9)
    await limit(database, tenant, "organization", requests_per_minute=3)
    for kind in ("organization", "project"):
        await limit(database, tenant, kind, requests_per_minute=None)
    assert await limits_of(database, tenant, "requests_per_minute") == [9, None, None]


async def test_back_to_the_setting_is_down_to_the_setting(database: Database, tenant: Tenant) -> None:
    most = SETTINGS.max_concurrent_requests
    await set_them(database, tenant, max_concurrent_requests=most + 5)
    await limit(database, tenant, "key", concurrent_requests=most + 5)
    lowered = await set_them(database, tenant, max_concurrent_requests=None)
    assert {each.now for each in lowered} == {most}
    assert await limits_of(database, tenant, "concurrent_requests") == [most, None, most]


async def test_the_worker_lowers_to_a_setting_that_was_lowered(
    database: Database, tenant: Tenant, keyring: Keyring
) -> None:
    favoured = await make_tenant(database, keyring)
    await set_them(database, favoured, max_tokens_per_minute=2_000)
    for each in (tenant, favoured):
        await limit(database, each, "project", tokens_per_minute=1_500)
    stricter = msgspec.structs.replace(SETTINGS, max_tokens_per_minute=1_000)
    await make_worker(database, stricter).sweep()
    assert await limits_of(database, tenant, "tokens_per_minute") == [None, 1_000, None]
    assert await limits_of(database, favoured, "tokens_per_minute") == [2_000, 1_500, None]
    assert await hold_ceilings(database, stricter) == []


async def test_the_worker_lowers_a_few_scopes_at_a_time(database: Database, keyring: Keyring) -> None:
    tenants = [await make_tenant(database, keyring) for _ in range(5)]
    for each in tenants:
        await limit(database, each, "project", tokens_per_minute=500)
        await limit(database, each, "key", tokens_per_minute=400)
    stricter = msgspec.structs.replace(SETTINGS, max_tokens_per_minute=300)
    lowered = await hold_ceilings(database, stricter, at_once=3)
    mine = {external("key", each.key_id) for each in tenants}
    assert mine <= {each.id for each in lowered}
    for each in tenants:
        assert await limits_of(database, each, "tokens_per_minute") == [None, 300, 300]


async def test_projects_and_keys_are_counted_against_its_own_ceilings(
    database: Database, tenant: Tenant, keyring: Keyring
) -> None:
    await set_them(database, tenant, max_projects=2, max_keys=1)

    async def make(at_most: int | None) -> None:
        async with database.transaction(organization_id=tenant.organization_id) as session:
            await create_project(
                session, organization_id=tenant.organization_id, name="p", actor_id=None, at_most=at_most
            )

    await make(1)
    with pytest.raises(Conflict, match="2 projects"):
        await make(100)
    with pytest.raises(Conflict, match="1 API keys"):
        async with database.transaction(organization_id=tenant.organization_id) as session:
            await create_key(
                session,
                keyring,
                organization_id=tenant.organization_id,
                project_id=tenant.project_id,
                name="k",
                at_most=100,
            )
    await make(None)


async def models_of(database: Database, tenant: Tenant, *keys: object) -> list[list[str] | None]:
    async with database.transaction(organization_id=tenant.organization_id) as session:
        return [
            row.models
            for key in keys
            if (row := await find_key(session, tenant.organization_id, key)) is not None  # type: ignore[arg-type]
        ]


async def test_keys_keep_of_their_models_what_the_organization_may_call(
    database: Database, tenant: Tenant, keyring: Keyring
) -> None:
    wide = (await make_key(database, keyring, tenant, models=["a", "b", "x"])).row.id
    narrow = (await make_key(database, keyring, tenant, models=["a"])).row.id
    outside = (await make_key(database, keyring, tenant, models=["x"])).row.id
    lowered = await set_them(database, tenant, allowed_models=["a", "b"])
    assert [(each.limit, each.before, each.now) for each in lowered] == [
        ("models", None, ["a", "b"]),
        ("models", ["a", "b", "x"], ["a", "b"]),
        ("models", ["x"], []),
    ]
    keys = (tenant.key_id, wide, narrow, outside)
    assert await models_of(database, tenant, *keys) == [["a", "b"], ["a", "b"], ["a"], []]


async def test_a_new_key_gets_no_model_beyond(database: Database, tenant: Tenant, keyring: Keyring) -> None:
    await set_them(database, tenant, allowed_models=["a", "b"])
    assert (await make_key(database, keyring, tenant)).row.models == ["a", "b"]
    assert (await make_key(database, keyring, tenant, models=["b"])).row.models == ["b"]
    with pytest.raises(BadRequest, match="'x'"):
        await make_key(database, keyring, tenant, models=["b", "x"])
    await set_them(database, tenant, allowed_models=None)
    assert (await make_key(database, keyring, tenant, models=["x"])).row.models == ["x"]


async def test_a_limit_set_meanwhile_does_not_get_past_the_new_ceiling(
    database: Database, tenant: Tenant
) -> None:
    """Whoever comes second sees what the first has done."""
    for _ in range(5):
        await set_them(database, tenant, max_requests_per_minute=1_000)
        outcomes = await asyncio.gather(
            limit(database, tenant, "key", requests_per_minute=900),
            set_them(database, tenant, max_requests_per_minute=10),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], InvalidLimit | None)
        assert not isinstance(outcomes[1], BaseException)
        assert (await limits_of(database, tenant, "requests_per_minute"))[2] in (None, 10)
        await limit(database, tenant, "key", requests_per_minute=None)


async def test_no_tenant_sets_its_own_ceiling(database: Database, tenant: Tenant) -> None:
    for name in OwnCeilings.__struct_fields__:
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.transaction(organization_id=tenant.organization_id) as session:
                await session.execute(text(f"UPDATE organization SET {name} = NULL"))  # noqa: S608


async def test_an_organization_that_is_none_has_none(database: Database) -> None:
    with pytest.raises(NotFound):
        async with database.meter_transaction() as session:
            await set_ceilings(session, new_id(), CeilingChange(max_keys=1), SETTINGS)
