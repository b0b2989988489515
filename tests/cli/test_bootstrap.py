"""The first start in development, one that died half-way, and production."""

import json
import re
import stat
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from farebox.auth.passwords import PasswordHasher
from farebox.billing.ledger import ledger_balance
from farebox.cli.bootstrap import EMAIL, Credentials, ensure_demo_organization
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.ids import external, internal
from farebox.core.settings import Settings
from farebox.keys.service import authenticate
from farebox.keys.tokens import Keyring
from farebox.tenants.accounts import find_user
from tests.cli.commands import shell
from tests.cli.conftest import MakeDatabase
from tests.cli.processes import running
from tests.conftest import migrate
from tests.waiting import WAIT_SECONDS, eventually

# Several starts of the whole command, on a machine that may be busy.

FIELDS = [
    "base_url",
    "dashboard_url",
    "email",
    "password",
    "api_key",
    "admin_key",
    "organization_id",
    "project_id",
]
COUNTS = """
SELECT (SELECT count(*) FROM organization), (SELECT count(*) FROM project), (SELECT count(*) FROM app_user),
    (SELECT count(*) FROM ledger_transfer WHERE kind = 'top_up'),
    (SELECT count(*) FROM api_key WHERE revoked_at IS NULL)
"""
ONE_OF_EACH_AND_TWO_KEYS = (1, 1, 1, 1, 2)


@pytest.fixture
async def empty_url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture
def url(empty_url: str) -> str:
    migrate(empty_url)
    return empty_url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
async def owner(url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """The tables' owner, who may count and lock everything."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=str(tmp_path / "data"), port=8123)


async def count(owner: "asyncpg.Connection[Any]") -> tuple[int, ...]:
    return tuple(await owner.fetchrow(COUNTS))


async def assert_all_of_it_works(database: Database, settings: Settings, credentials: Credentials) -> None:
    """The two keys open their doors, the password signs in, there is money."""
    keyring = await Keyring.load(database, settings)
    scopes = []
    for token in (credentials.api_key, credentials.admin_key):
        principal = await authenticate(database, await keyring.resolve(token))
        assert external("org", principal.organization_id) == credentials.organization_id
        assert external("proj", principal.project_id) == credentials.project_id
        scopes.append(principal.scopes)
    assert scopes == [{"inference"}, {"admin"}]
    async with database.transaction(email=credentials.email) as session:
        user = await find_user(session, credentials.email)
    assert user is not None
    assert user.email_verified_at is not None
    hasher = PasswordHasher()
    assert user.password_hash is not None
    assert await hasher.verify(user.password_hash, credentials.password, asker=("test",) * 3)
    hasher.close()
    organization_id = internal("org", credentials.organization_id)
    async with database.transaction(organization_id=organization_id) as session:
        assert await ledger_balance(session, organization_id) == Decimal(100)


async def test_the_first_start_makes_it_and_the_second_finds_it(
    database: Database, settings: Settings, owner: "asyncpg.Connection[Any]"
) -> None:
    first = await ensure_demo_organization(database, settings)
    await assert_all_of_it_works(database, settings, first)
    assert first.email == EMAIL
    file = settings.data_dir / "dev-credentials.json"
    assert list(json.loads(file.read_bytes())) == FIELDS
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await ensure_demo_organization(database, settings) == first
    assert await count(owner) == ONE_OF_EACH_AND_TWO_KEYS


async def test_another_port_changes_the_addresses_and_nothing_else(
    database: Database, settings: Settings
) -> None:
    first = await ensure_demo_organization(database, settings)
    assert (first.base_url, first.dashboard_url) == ("http://127.0.0.1:8123", "http://127.0.0.1:8123/")
    moved = Settings(data=settings.data, port=9000)
    second = await ensure_demo_organization(database, moved)
    assert (second.base_url, second.dashboard_url) == ("http://127.0.0.1:9000", "http://127.0.0.1:9000/")
    assert (second.api_key, second.password) == (first.api_key, first.password)


@pytest.mark.parametrize("table", ["organization", "ledger_transfer", "api_key"])
async def test_a_start_that_failed_at_a_step_is_made_good(
    table: str, database: Database, settings: Settings, owner: "asyncpg.Connection[Any]"
) -> None:
    async with owner.transaction():
        await owner.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        with pytest.raises(Unavailable):
            await ensure_demo_organization(database, settings)
    assert not (settings.data_dir / "dev-credentials.json").exists()
    await assert_all_of_it_works(database, settings, await ensure_demo_organization(database, settings))
    assert await count(owner) == ONE_OF_EACH_AND_TWO_KEYS


@pytest.mark.parametrize("content", [None, b"", b'{"base_url": "http', b"{}"])
async def test_keys_that_nobody_has_are_revoked_when_new_ones_are_made(
    content: bytes | None, database: Database, settings: Settings, owner: "asyncpg.Connection[Any]"
) -> None:
    """The start died between making keys and writing them down, or the file was lost or torn."""
    first = await ensure_demo_organization(database, settings)
    file = settings.data_dir / "dev-credentials.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o644)
    second = await ensure_demo_organization(database, settings)
    await assert_all_of_it_works(database, settings, second)
    assert second.organization_id == first.organization_id
    assert second.api_key != first.api_key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await count(owner) == ONE_OF_EACH_AND_TWO_KEYS


async def test_credentials_of_another_database_are_replaced(
    database: Database, settings: Settings, owner: "asyncpg.Connection[Any]"
) -> None:
    first = await ensure_demo_organization(database, settings)
    await owner.execute("UPDATE api_key SET revoked_at = now() WHERE name = 'Demo'")
    second = await ensure_demo_organization(database, settings)
    assert second.api_key != first.api_key
    await assert_all_of_it_works(database, settings, second)
    assert await count(owner) == ONE_OF_EACH_AND_TWO_KEYS


async def test_up_killed_in_the_middle_and_started_again(
    url: str, tmp_path: Path, owner: "asyncpg.Connection[Any]"
) -> None:
    """The whole command: kill -9 after the money and before the keys, then two good starts."""
    there = shell(tmp_path, url)

    async def waits_for_the_lock() -> bool:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'api_key'::regclass"
        return bool(await owner.fetchval(query))

    async with running(there, "up") as up:
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute("LOCK TABLE api_key IN EXCLUSIVE MODE")
        await eventually(waits_for_the_lock)
        await up.kill()
        await transaction.rollback()
    file = tmp_path / "data" / "dev-credentials.json"
    assert not file.exists()
    documents = []
    for _ in range(2):
        async with running(there, "up", until="Ctrl-C stops it.") as up:
            assert any(re.fullmatch(r"Farebox is ready in \d+\.\d s\.", line) for line in up.printed)
            document = json.loads(file.read_bytes())
            assert document["base_url"] == up.url
            assert any(document["password"] in line for line in up.printed)
            await ask(document)
        assert up.process.returncode == 0
        assert up.printed[-1] == "Farebox has stopped."
        documents.append({**document, "base_url": "", "dashboard_url": ""})
    assert documents[0] == documents[1]
    assert await count(owner) == ONE_OF_EACH_AND_TWO_KEYS


async def ask(document: dict[str, str]) -> None:
    """What the printed curl line does."""
    body = {
        "model": "farebox-demo",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }
    headers = {"authorization": f"Bearer {document['api_key']}"}
    async with httpx.AsyncClient(
        base_url=document["base_url"], headers=headers, timeout=WAIT_SECONDS
    ) as client:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] >= 1


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ({}, ["FAREBOX_SECRET_KEY", "openssl rand -hex 32", "FAREBOX_DATABASE_URL", "FAREBOX_BASE_URL"]),
        ({"secret_key": "development-" + "0" * 64}, ["FAREBOX_SECRET_KEY is a development secret"]),
        ({"base_url": "http://farebox.example"}, ["FAREBOX_BASE_URL must start with https://"]),
    ],
    ids=["nothing set", "a development secret", "no https"],
)
def test_production_refuses_what_development_uses(
    settings: dict[str, str], sentences: list[str], tmp_path: Path
) -> None:
    complete = {"secret_key": "x" * 40, "database_url": "postgresql://h/d", "base_url": "https://f.example"}
    given = complete | settings if settings else {}
    refusal = shell(tmp_path).set(env="production", **given).run("up").refusal
    assert all(sentence in refusal for sentence in sentences)
    assert not (tmp_path / "data").exists()


async def test_production_gets_no_demo_organization(url: str, tmp_path: Path) -> None:
    there = shell(tmp_path, url, env="production", base_url="https://farebox.example")
    async with running(there, "up", until="Dashboard") as up:
        assert "https://farebox.example/v1" in "".join(up.printed)
    assert "password" not in "".join(up.printed)
    assert there.json("org", "list") == []
    assert not (tmp_path / "data" / "dev-credentials.json").exists()


async def test_a_second_start_in_the_same_directory_is_refused(url: str, tmp_path: Path) -> None:
    there = shell(tmp_path, url, demo_model="false")
    async with running(there, "up", until="Dashboard") as first:
        refusal = there.set(port="0").run("up").refusal
        assert f"(process {first.process.pid})" in refusal
        assert "FAREBOX_DATA" in refusal
