"""`farebox doctor` finds each fault, and says how to mend it. Each fault here is a real one."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from farebox.billing.months import month_of
from farebox.cli.doctor.machine_checks import LEAST_FREE_BYTES, judge_clock, judge_disk
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres
from tests.billing.invoices.books import SELLER, Books, day
from tests.cli.commands import Farebox, shell
from tests.cli.conftest import MakeDatabase
from tests.engine.checkpoints import build_checkpoint

Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
async def url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture(scope="module")
def sound(url: str, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    """A Farebox in good order, with one model and a signing key."""
    directory = tmp_path_factory.mktemp("sound")
    sound = shell(directory, url)
    sound.json("migrate")
    sound.json("keys", "rotate")
    sound.json("model", "add", build_checkpoint(directory / "tiny"), "--name", "tiny")
    return sound


def examine(patient: Farebox) -> tuple[int, Findings]:
    answer = patient.run("doctor", "--json")
    assert answer.err == ""
    return answer.status, {finding["check"]: finding for finding in json.loads(answer.out)}


def test_nothing_is_wrong(sound: Farebox) -> None:
    status, findings = examine(sound)
    assert status == 0
    assert {finding["state"] for finding in findings.values()} == {"ok"}
    assert {finding["mend"] for finding in findings.values()} == {None}
    assert list(findings) == [
        "database",
        "migrations",
        "clock",
        "partitions",
        "signing keys",
        "outbox",
        "invoices",
        "models",
        "GPU",
        "disk",
    ]
    answer = sound.run("doctor")
    assert [line.split()[1] for line in answer.out.splitlines()] == [name.split()[0] for name in findings]


def test_database_away(tmp_path: Path) -> None:
    status, findings = examine(shell(tmp_path, "postgresql://u:hunter2@127.0.0.1:1/db"))
    assert status == 1
    assert findings["database"]["state"] == "failure"
    assert "FAREBOX_DATABASE_URL" in findings["database"]["mend"]
    assert "hunter2" not in str(findings)
    assert findings["GPU"]["state"] == findings["disk"]["state"] == "ok", "the other checks are made"


def test_embedded_postgres_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "letter.txt").write_text("mine")
    status, findings = examine(shell(tmp_path))
    assert status == 1
    assert "in the way" in findings["database"]["detail"]
    assert "FAREBOX_DATABASE_URL" in findings["database"]["mend"]


def test_not_migrated(empty: Farebox) -> None:
    status, findings = examine(empty)
    assert status == 1
    assert findings["migrations"]["state"] == "failure"
    assert "none" in findings["migrations"]["detail"]
    assert findings["migrations"]["mend"] == "Run `farebox migrate`."
    assert "models" not in findings, "there are no tables to look into"


async def test_a_fresh_database_has_no_keys_and_no_models(empty: Farebox) -> None:
    empty.json("migrate")
    for _ in range(2):  # looking makes none
        status, findings = examine(empty)
        assert status == 0
        assert findings["signing keys"]["state"] == "warning"
        assert "farebox keys rotate" in findings["signing keys"]["mend"]
        assert findings["models"]["state"] == "warning"
        assert "farebox model add DIR --name NAME" in findings["models"]["mend"]


async def test_missing_partitions(sound: Farebox, url: str) -> None:
    connection = await asyncpg.connect(url)
    months = "SELECT relname FROM pg_class WHERE relname ~ '^usage_event_[0-9]+_[0-9]+$' AND relkind = 'r'"
    for row in await connection.fetch(months):
        await connection.execute(f"DROP TABLE {row['relname']}")
    await connection.close()
    status, findings = examine(sound)
    assert (status, findings["partitions"]["state"]) == (0, "warning")
    assert "farebox migrate" in findings["partitions"]["mend"]
    assert len(sound.json("migrate")["partitions"]) == 25
    assert examine(sound)[1]["partitions"]["state"] == "ok"


async def test_a_secret_that_is_not_the_one(sound: Farebox) -> None:
    status, findings = examine(sound.set(secret_key="x" * 40))
    assert status == 1
    assert findings["signing keys"]["state"] == "failure"
    assert "farebox keys reseal" in findings["signing keys"]["mend"]


def test_a_development_secret_that_is_gone(sound: Farebox, tmp_path: Path) -> None:
    status, findings = examine(sound.set(secret_key=None, data=str(tmp_path / "other")))
    assert status == 1
    assert "is gone" in findings["signing keys"]["detail"]
    assert "Put it back" in findings["signing keys"]["mend"]
    assert not (tmp_path / "other" / "secret.key").exists(), "looking makes none"


@pytest.fixture
def spoiled(sound: Farebox, tmp_path: Path) -> Iterator[Path]:
    """A second model, whose folder the test spoils."""
    folder = build_checkpoint(tmp_path / "spoiled", seed=1)
    sound.json("model", "add", folder, "--name", "spoiled")
    yield folder
    sound.json("model", "remove", "spoiled")


def found_in_models(sound: Farebox) -> dict[str, Any]:
    status, findings = examine(sound)
    assert status == 1
    assert findings["models"]["state"] == "failure"
    assert findings["models"]["detail"].startswith("spoiled")
    assert "farebox model add DIR --name spoiled" in findings["models"]["mend"]
    return findings["models"]


def test_a_model_folder_that_is_gone(sound: Farebox, spoiled: Path) -> None:
    shutil.rmtree(spoiled)
    assert f"There is no folder {spoiled}" in found_in_models(sound)["detail"]


def test_weights_that_have_changed(sound: Farebox, spoiled: Path) -> None:
    build_checkpoint(spoiled, seed=2)
    assert "not those that were added" in found_in_models(sound)["detail"]


def test_a_config_that_no_longer_fits(sound: Farebox, spoiled: Path) -> None:
    (spoiled / "config.json").write_text("{}")
    assert "not supported" in found_in_models(sound)["detail"]


async def test_a_model_without_a_price(sound: Farebox, spoiled: Path, url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE price DISABLE TRIGGER ALL")
    await connection.execute("DELETE FROM price WHERE model_id = 'spoiled'")
    await connection.execute("ALTER TABLE price ENABLE TRIGGER ALL")
    await connection.close()
    status, findings = examine(sound)
    assert status == 1
    assert "spoiled has no price" in findings["models"]["detail"]
    assert "farebox model price spoiled" in findings["models"]["mend"]


async def test_mails_that_were_given_up(sound: Farebox, url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO outbox (topic, payload, next_attempt_at, last_error)"
        " VALUES ('mail', '{}', 'infinity', 'OSError: no route to host')"
    )
    _, findings = examine(sound)
    assert findings["outbox"]["state"] == "warning"
    assert "given up 1, such as: OSError: no route" in findings["outbox"]["detail"]
    assert "FAREBOX_SMTP_URL" in findings["outbox"]["mend"]
    assert "farebox worker --retry" in findings["outbox"]["mend"]
    await connection.execute("DELETE FROM outbox")
    await connection.close()


async def test_a_month_that_is_not_closed(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = await make_database()
    patient = shell(tmp_path, url)
    patient.json("migrate")
    database = Database(url, pool_size=4)
    books = Books(database, url, SELLER)
    account = await books.customer(line=10)
    month = month_of(month_of(month_of(utc_now()).start - timedelta(days=1)).start - timedelta(days=1))
    await books.use(account, day(20, month), input_tokens=1_000_000)
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE organization SET created_at = $1", month.start)
    _, findings = examine(patient)
    assert findings["invoices"]["state"] == "warning"
    assert str(month) in findings["invoices"]["detail"]
    assert "FAREBOX_ISSUER_NAME and FAREBOX_ISSUER_ADDRESS" in findings["invoices"]["mend"]
    named = patient.set(issuer_name="Farebox Ltd", issuer_address="1 Quay Street")
    assert f"--month {month}" in examine(named)[1]["invoices"]["mend"]
    await books.close(account, month)
    assert examine(named)[1]["invoices"]["state"] == "ok"
    await connection.close()
    await database.close()


async def test_fsync_off(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        status, findings = examine(shell(tmp_path, server.url))
    assert status == 1
    assert "fsync is off" in findings["database"]["detail"]
    assert findings["database"]["mend"] == "Turn fsync on."


def test_a_gpu_that_is_not_there(sound: Farebox) -> None:
    status, findings = examine(sound.set(engine_device="cuda"))
    if findings["GPU"]["detail"].startswith("no GPU"):
        assert (status, findings["GPU"]["state"]) == (1, "failure")
        assert "FAREBOX_ENGINE_DEVICE=cpu" in findings["GPU"]["mend"]
    else:
        assert findings["GPU"]["state"] == "ok"


def test_a_precision_that_the_device_does_not_have(sound: Farebox) -> None:
    status, findings = examine(sound.set(engine_device="cpu", engine_quantization="fp8"))
    assert (status, findings["GPU"]["state"]) == (1, "failure")
    assert "'fp8', which needs a GPU" in findings["GPU"]["detail"]
    assert "FAREBOX_ENGINE_QUANTIZATION=int8" in findings["GPU"]["mend"]


def test_a_data_directory_that_is_a_file(sound: Farebox, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    status, findings = examine(sound.set(data=str(tmp_path / "taken" / "data")))
    assert status == 1
    assert "cannot write in" in findings["disk"]["detail"]
    assert "FAREBOX_DATA" in findings["disk"]["mend"]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Judged from the figure: a test cannot fill the disk it runs on."""
    assert judge_disk(tmp_path, LEAST_FREE_BYTES).state == "ok"
    finding = judge_disk(tmp_path, LEAST_FREE_BYTES - 1)
    assert finding.state == "failure"
    assert finding.mend is not None
    assert "Free some space" in finding.mend


def test_a_clock_that_is_off() -> None:
    """Judged from the figure: a test cannot set the machine's clock."""
    assert judge_clock(-1.9).state == "ok"
    for skew in (2.1, -3600.0):
        finding = judge_clock(skew)
        assert finding.state == "failure"
        assert finding.mend is not None
        assert "NTP" in finding.mend
