"""Databases that other versions migrated: how to go on is said in a sentence, and nothing is touched."""

import json
from pathlib import Path

import asyncpg
import pytest

from tests.cli.commands import shell
from tests.cli.conftest import MakeDatabase

EMPTY = "Begin with an empty database"
NEWER = "A newer Farebox has migrated it"


@pytest.mark.parametrize(
    ("revision", "advice"),
    [
        ("0001", EMPTY),
        # Of the former chain's ids this one begins one of today's.
        ("0008", EMPTY),
        ("0009", EMPTY),
        ("9999_of_the_future", NEWER),
    ],
)
async def test_the_advice_for_a_revision_of_another_version(
    revision: str, advice: str, make_database: MakeDatabase, tmp_path: Path
) -> None:
    url = await make_database()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    await connection.execute("INSERT INTO alembic_version VALUES ($1)", revision)
    farebox = shell(tmp_path, url)
    for command in (("migrate",), ("worker",), ("org", "list")):
        refusal = farebox.run(*command).refusal
        assert f"at revision {revision}," in refusal
        assert advice in refusal
    findings = {row["check"]: row for row in json.loads(farebox.run("doctor", "--json").out)}
    assert advice in findings["migrations"]["mend"]
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == revision
    assert await connection.fetchval("SELECT to_regclass('organization')") is None
    await connection.close()
