"""What a line of the log says, and what it must not."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
import structlog

from farebox.core.logs import REQUEST_ID, REQUEST_LOG, configure_logs
from tests.cli.commands import logs_kept


@contextmanager
def logging_to_stderr(*, as_json: bool) -> Iterator[None]:
    with logs_kept():
        configure_logs("INFO", as_json=as_json)
        yield


@pytest.fixture
def request_id() -> Iterator[str]:
    token = REQUEST_ID.set("req_1")
    yield REQUEST_ID.get()
    REQUEST_ID.reset(token)


def fail(secret: str) -> None:
    raise ValueError(f"a secret of {len(secret)} characters")


def test_json_lines(capfdbinary: pytest.CaptureFixture[bytes], request_id: str) -> None:
    with logging_to_stderr(as_json=True):
        log = structlog.get_logger("tests")
        log.debug("not.shown")
        log.info("balance.topped_up", amount=Decimal("0.000000000001"), organization="org_1")
        log.warning("named.already", request_id="req_2")
    first, second = (json.loads(line) for line in capfdbinary.readouterr().err.splitlines())
    stamp = first.pop("timestamp")
    assert stamp.endswith("Z")
    assert "T" in stamp
    assert first == {
        "event": "balance.topped_up",
        "level": "info",
        "amount": "1E-12",
        "organization": "org_1",
        "request_id": request_id,
    }
    assert (second["level"], second["request_id"]) == ("warning", "req_2")


def test_a_line_of_a_request_is_as_any_other(
    capfdbinary: pytest.CaptureFixture[bytes], request_id: str
) -> None:
    facts = {"status": 200, "amount": Decimal("0.5"), "organization": "org_1"}
    with logging_to_stderr(as_json=True):
        REQUEST_LOG.write(event="request.completed", **facts)
        structlog.get_logger("tests").info("request.completed", **facts)
    first, second = (json.loads(line) for line in capfdbinary.readouterr().err.splitlines())
    assert first.pop("timestamp") <= second.pop("timestamp")
    assert first == second
    assert first["request_id"] == request_id


@pytest.mark.parametrize("as_json", [True, False])
def test_lines_of_requests_obey_the_level(
    capfdbinary: pytest.CaptureFixture[bytes], *, as_json: bool
) -> None:
    with logs_kept():
        configure_logs("WARNING", as_json=as_json)
        REQUEST_LOG.write(event="request.completed")
    assert capfdbinary.readouterr().err == b""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_without_locals(capfdbinary: pytest.CaptureFixture[bytes], *, as_json: bool) -> None:
    with logging_to_stderr(as_json=as_json):
        try:
            fail(" ".join(["correct", "horse"]))
        except ValueError:
            structlog.get_logger("tests").exception("job.failed")
    sys.stderr.flush()
    written = capfdbinary.readouterr().err
    assert b"ValueError" in written
    assert b"correct horse" not in written
    if as_json:
        line = json.loads(written)
        assert line["level"] == "error"
        assert "request_id" not in line
        assert line["exception"].startswith("Traceback")
