"""Every function of the database has a file that shows it as it is, and no file shows another."""

from pathlib import Path

import asyncpg

from farebox.core.sql import statements

PLATFORM = Path(__file__).resolve().parents[2] / "platform" / "farebox"
# A file's name is the function's; those of metering leave out what all of them begin with.
PREFIXES = {"metering": "farebox_"}

FUNCTIONS = """
SELECT p.proname AS name, pg_get_functiondef(p.oid) AS definition
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace ORDER BY 1, 2
"""
DROP_ALL = """
SELECT format('DROP FUNCTION %s CASCADE', p.oid::regprocedure)
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
"""


def sql_files() -> dict[str, Path]:
    """The files by the names of their functions."""
    return {PREFIXES.get(path.parts[-3], "") + path.stem: path for path in PLATFORM.glob("*/sql/*.sql")}


async def test_the_files_show_the_functions_of_the_migrated_database(database_url: str) -> None:
    """Made from the files alone, in a transaction that is rolled back, they are those of the migrations."""
    connection = await asyncpg.connect(database_url)
    migrated = await connection.fetch(FUNCTIONS)
    transaction = connection.transaction()
    await transaction.start()
    try:
        for (drop,) in await connection.fetch(DROP_ALL):
            await connection.execute(drop)
        for path in sql_files().values():
            for statement in statements(path.read_text(encoding="utf-8")):
                await connection.execute(statement)
        shown = await connection.fetch(FUNCTIONS)
    finally:
        await transaction.rollback()
        await connection.close()
    assert [row["name"] for row in migrated] == sorted(sql_files())
    assert [row["definition"] for row in shown] == [row["definition"] for row in migrated]
