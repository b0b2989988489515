"""The embedded Postgres comes back after whatever ended it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from farebox.core.postgres.embedded import EmbeddedPostgres, PostgresError


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "postgres"
    yield directory
    if EmbeddedPostgres.running_url(directory):
        EmbeddedPostgres(directory).stop()


async def count_rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS mark (id int)")
    await connection.execute("INSERT INTO mark VALUES (1)")
    rows: int = await connection.fetchval("SELECT count(*) FROM mark")
    await connection.close()
    return rows


async def test_it_keeps_its_rows_across_an_orderly_stop(directory: Path) -> None:
    with EmbeddedPostgres(directory) as server:
        assert server.started
        assert EmbeddedPostgres.running_url(directory) == server.url
        assert await count_rows(server.url) == 1
    assert EmbeddedPostgres.running_url(directory) is None
    with EmbeddedPostgres(directory) as server:
        assert await count_rows(server.url) == 2


def test_a_running_server_is_found_again(directory: Path) -> None:
    first = EmbeddedPostgres(directory)
    second = EmbeddedPostgres(directory)
    assert (second.started, second.url) == (False, first.url)


async def test_it_recovers_from_a_killed_postmaster(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    await count_rows(server.url)
    postmaster = psutil.Process(read_pid(directory))
    postmaster.send_signal(signal.SIGKILL)
    psutil.wait_procs([postmaster], timeout=5)
    again = EmbeddedPostgres(directory)
    assert again.started
    assert await count_rows(again.url) == 2


@pytest.mark.parametrize(
    "content", ["", "{pid}\n", "{pid}\n{directory}\n1\n5432\n{directory}\n\n1 1\nready\n"]
)
def test_a_pid_file_that_names_another_program_is_no_obstacle(directory: Path, content: str) -> None:
    EmbeddedPostgres(directory).stop()
    stale = directory / "postmaster.pid"
    stale.write_text(content.format(pid=os.getpid(), directory=directory))
    server = EmbeddedPostgres(directory)
    assert server.started
    assert read_pid(directory) != os.getpid()


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ("long" * 30) / "it's a place") as server:
        assert server.started


def test_a_cut_short_initialization_is_begun_again(directory: Path) -> None:
    unfinished = directory.with_name("postgres.new")
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(directory) as server:
        assert server.started


def test_a_foreign_folder_is_left_alone(directory: Path) -> None:
    directory.mkdir()
    (directory / "letter.txt").write_text("mine")
    with pytest.raises(PostgresError, match="in the way"):
        EmbeddedPostgres(directory)
    assert (directory / "letter.txt").read_text() == "mine"


def read_pid(directory: Path) -> int:
    return int((directory / "postmaster.pid").read_text().split()[0])
