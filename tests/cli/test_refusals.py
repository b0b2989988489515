"""Bad input and a broken surrounding: one sentence that helps, never a traceback."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import Farebox, shell
from tests.engine.checkpoints import build_checkpoint

ORG, KEY = "org_0199d3f04a7c7b52a6e1c4d2f8b09a31", "key_0199d3f04a7c7b52a6e1c4d2f8b09a31"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("org", "create", ""), "1 to 100 printable characters"),
        (("org", "create", "x" * 101), "1 to 100 printable characters"),
        (("org", "create", "Acme", "--owner", "nobody@example.com"), "Nobody has signed up as nobody@"),
        (("org", "create", "Acme", "--owner", "not an address"), "not an e-mail address"),
        (("org", "credit", ORG, "5", "--reference", "r"), "No such organization"),
        (("org", "credit", "acme", "5", "--reference", "r"), "'acme' does not look like org_"),
        (("org", "credit", ORG, "five", "--reference", "r"), "'five' is not an amount"),
        (("org", "credit", ORG, "NaN", "--reference", "r"), "'NaN' is not an amount"),
        (("org", "credit", ORG, "1e3", "--reference", "r"), "'1e3' is not an amount"),
        (("org", "credit", ORG, "0.001", "--reference", "r"), "positive amount in what USD can be paid in"),
        (("org", "credit", ORG, "1_000", "--reference", "r"), "'1_000' is not an amount"),
        (("org", "debit", ORG, "1e1", "--reason", "r"), "'1e1' is not an amount"),
        (("org", "debit", ORG, "5", "--reason", "r"), "No such organization"),
        (("org", "debit", ORG, "5"), "Missing option '--reason'"),
        (("model", "price", "x", "--input", "1e3", "--output", "1"), "`1e3` is not a price"),
        (("usage", "show", "--days", "3", "--from", "2026-01-01"), "either --days, or --from and --to"),
        (("usage", "show", "--to", "2026-01-01"), "--to needs --from"),
        (("usage", "show", "--from", "2026-02-01", "--to", "2026-01-01"), "--from lies after --to"),
        (("org", "credit", ORG, "5"), "Missing option '--reference'"),
        (("key", "create"), "Missing option '--organization'"),
        (("key", "create", "--organization", ORG), "No such organization"),
        (("key", "create", "--organization", KEY), "does not look like org_"),
        (("key", "create", "--organization", ORG, "--days", "0"), "is not in the range 1<=x<=3650"),
        (("key", "create", "--organization", ORG, "--days", "9" * 12), "is not in the range"),
        (("key", "create", "--organization", ORG, "--scope", "root"), "'root' is not one of"),
        (("key", "revoke", KEY), "No such API key"),
        (("key", "revoke", "fb_live_x"), "does not look like key_"),
        (("keys", "retire", "unknown", "--yes"), "No such signing key"),
        (("keys", "reseal"), "Set FAREBOX_FORMER_SECRET_KEY to the secret"),
        (("keys", "reseal", "--former", "x"), "No such option '--former'"),
        (("model", "add", "nowhere", "--name", "x"), "Directory 'nowhere' does not exist"),
        (("model", "add", ".", "--name", "x"), "has no config.json"),
        (("model", "add", ".", "--name", " x"), "without spaces"),
        (("model", "add", ".", "--name", "bad name/x"), "without spaces"),
        (("model", "add", ".", "--name", "x" * 257), "1 to 256 letters"),
        (("model", "add", ".", "--name", "/x"), "begins with a letter"),
        (("model", "add", ".", "--name", "base:x"), "is a whole model; a name with a colon"),
        (("model", "add", "."), "Missing option '--name'"),
        (("model", "remove", "unknown"), "There is no model `unknown`"),
        (("model", "price", "unknown", "--input", "1", "--output", "1"), "There is no model `unknown`"),
        (("model", "price", "unknown", "--input", "a", "--output", "1"), "`a` is not a price"),
        (("model", "price", "unknown", "--input", "0.0000001", "--output", "1"), "at most six decimals"),
        (("model", "price", "x", "--input", "1", "--output", "1", "--from", "soon"), "'soon' does not match"),
        (("usage", "show", "--days", "0"), "is not in the range"),
        (("usage", "show", "--organization", "x"), "does not look like org_"),
        (("usage", "show", "\udcff"), "not valid UTF-8"),
    ],
    ids=lambda value: (
        " ".join(value)[:40].encode(errors="replace").decode() if isinstance(value, tuple) else ""
    ),
)
def test_bad_arguments(arguments: tuple[str, ...], sentence: str, shop: Farebox) -> None:
    answer = shop.run(*arguments)
    assert sentence in answer.refusal
    assert answer.status in (1, 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"colour": "red"}, "There is no setting FAREBOX_COLOUR"),
        ({"former_secret_key": "x"}, "There is no setting FAREBOX_FORMER_SECRET_KEY"),
        ({"port": "http"}, "FAREBOX_PORT is wrong: expected `int`"),
        ({"database_pool_size": "0"}, "FAREBOX_DATABASE_POOL_SIZE is wrong: expected `int` >= 1"),
        ({"currency": "dollar"}, "FAREBOX_CURRENCY is wrong"),
        ({"default_input_price": "-1"}, "FAREBOX_DEFAULT_INPUT_PRICE is wrong"),
        ({"database_url": "mysql://there/db"}, "FAREBOX_DATABASE_URL must start with postgresql://"),
        ({"database_url": "postgresql://there:port/db"}, "FAREBOX_DATABASE_URL is no postgresql:// address"),
        ({"secret_key": "short"}, "openssl rand -hex 32"),
        ({"config": "nowhere.toml"}, "FAREBOX_CONFIG names nowhere.toml"),
        ({"data": "taken"}, "Set FAREBOX_DATA to a directory of its own"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(settings: dict[str, str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert sentence in shell(tmp_path).set(**settings).run("org", "list").refusal


@pytest.mark.parametrize("command", [("migrate",), ("org", "list"), ("serve",), ("worker",), ("up",)])
def test_a_database_that_is_away(command: tuple[str, ...], tmp_path: Path) -> None:
    away = shell(tmp_path, "postgresql://farebox:hunter2@127.0.0.1:1/farebox", port="0")
    refusal = away.run(*command).refusal
    assert "The database postgresql://farebox:***@127.0.0.1:1/farebox cannot be used" in refusal
    assert "Check FAREBOX_DATABASE_URL" in refusal
    assert "hunter2" not in refusal


@pytest.mark.parametrize("command", [("org", "list"), ("serve",), ("worker",), ("keys", "rotate")])
def test_a_database_without_tables(command: tuple[str, ...], empty: Farebox) -> None:
    assert "Run `farebox migrate`." in empty.set(port="0").run(*command).refusal


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refusal = shell(tmp_path, port=port).run("up").refusal
    assert f"cannot listen on 127.0.0.1 port {port}" in refusal


def test_a_checkpoint_that_cannot_be_sold(shop: Farebox, tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "convert them to safetensors" in shop.run("model", "add", folder, "--name", "pickled").refusal
    assert "pickled" not in [row["id"] for row in shop.json("model", "list")]


def test_a_price_cannot_begin_in_the_past(shop: Farebox, tmp_path: Path) -> None:
    shop.json("model", "add", build_checkpoint(tmp_path / "past"), "--name", "past")
    arguments = ("model", "price", "past", "--input", "1", "--output", "1", "--from", "2020-01-01")
    assert "cannot take effect in the past" in shop.run(*arguments).refusal


def test_a_reader_that_has_left_is_no_traceback(shop: Farebox) -> None:
    """As in `farebox openapi | head -1`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "farebox.cli", "openapi"],
        env=shop.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert b"Traceback" not in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    refusal = shell(tmp_path).set(data="theirs/data").run("org", "list").refusal
    assert "Set FAREBOX_DATA to a directory of its own" in refusal
    shutil.rmtree(tmp_path / "theirs")


@pytest.mark.parametrize(
    "command",
    [("migrate",), ("serve",), ("worker",), ("org", "list"), ("keys", "rotate"), ("model", "list")],
    ids=" ".join,
)
def test_only_up_founds_a_cluster(command: tuple[str, ...], tmp_path: Path) -> None:
    """In another directory than Farebox's, a command says so, and leaves the directory as it was."""
    elsewhere = shell(tmp_path).set(data=None, port="0")
    refusal = elsewhere.run(*command).refusal
    assert f"There is no Farebox in {tmp_path / '.farebox'}" in refusal.replace("\n", "")
    assert "`farebox up` founds a new one here" in refusal
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".farebox").mkdir()
    (tmp_path / ".farebox" / "lock").touch()  # an `up` that ended before it had made a cluster
    assert "There is no Farebox" in elsewhere.run(*command).refusal
    assert not (tmp_path / ".farebox" / "postgres").exists()


def test_the_doctor_founds_no_cluster_either(tmp_path: Path) -> None:
    answer = shell(tmp_path).set(data=None).run("doctor")
    assert answer.status == 1
    assert "There is no Farebox in" in answer.out
    assert "Run `farebox up`, or set FAREBOX_DATABASE_URL." in answer.out
    assert list(tmp_path.iterdir()) == []
