"""A customer checks the books: receipts and proofs, by the command and by the manual's own example."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import structlog
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from farebox.billing.proofs.schemas import ProofAnswer
from farebox.cli.main import farebox
from farebox.core import base64url
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.keys.jws import StatementSigner, read_jwks
from farebox.keys.receipt_keys import ROOT_TYPE
from farebox.metering.receipts.batch import ReceiptBatch
from farebox.metering.receipts.verification import verify_receipt
from farebox.metering.seals.proofs import (
    BookedTwice,
    NotAsSealed,
    find_entries,
    sealed_entries,
    sealed_period,
)
from farebox.metering.seals.sealing import hour_of
from farebox.metering.seals.verification import InvalidProof, compare, verify_proof
from tests.bench.instant import MODEL
from tests.billing.proofs.conftest import WEIGHTS
from tests.conftest import ROOT
from tests.metering.seals.sealed_books import Customer, alter, book_twice
from tests.tenants.factories import Tenant

CloseTheBooks = Callable[[], Awaitable[int]]
EXAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "receipts.md").read_text(), re.DOTALL)


async def ask(http: httpx.AsyncClient) -> tuple[str, str]:
    """The id and the receipt of an answer."""
    answer = await http.post("/v1/completions", json={"model": MODEL, "prompt": "One", "max_tokens": 5})
    assert answer.status_code == 200
    return answer.headers["x-request-id"], answer.headers["farebox-receipt"]


async def fetch(http: httpx.AsyncClient, kind: str, request_id: str) -> Any:
    return (await http.get(f"/v1/organization/{kind}/{request_id}")).json()


class Files:
    """What a customer has kept: the receipt, the keys, the proof."""

    def __init__(self, folder: Path) -> None:
        self.receipt, self.jwks, self.proof = [folder / name for name in ("receipt", "jwks", "proof")]

    async def keep(self, http: httpx.AsyncClient, request_id: str, receipt: str) -> None:
        self.receipt.write_text(receipt)
        self.jwks.write_bytes((await http.get("/.well-known/jwks.json")).content)
        await self.fetch_proof(http, request_id)

    async def fetch_proof(self, http: httpx.AsyncClient, request_id: str) -> None:
        answer = await http.get(f"/v1/organization/proofs/{request_id}")
        assert answer.status_code == 200
        self.proof.write_bytes(answer.content)

    def by_command(self) -> Result:
        arguments = ["verify", str(self.receipt), "--jwks", str(self.jwks), "--proof", str(self.proof)]
        return CliRunner().invoke(farebox, arguments)

    async def by_example(self, folder: Path) -> "subprocess.CompletedProcess[str]":
        """The manual's example, with no Farebox in reach."""
        (script,) = EXAMPLE
        (folder / "check.py").write_text(script)
        arguments = [sys.executable, "-I", "check.py", self.receipt, self.jwks, self.proof]
        run = partial(subprocess.run, arguments, cwd=folder, capture_output=True, text=True, check=False)
        return await asyncio.to_thread(run)


async def test_a_customer_checks_a_request_offline(
    http: httpx.AsyncClient, close_the_books: CloseTheBooks, tmp_path: Path
) -> None:
    for _ in range(5):
        request_id, receipt = await ask(http)
    await close_the_books()
    files = Files(tmp_path)
    await files.keep(http, request_id, receipt)
    told = files.by_command()
    assert (told.exit_code, f"{request_id} came to 0.00003 USD" in told.output) == (0, True), told.output
    example = await files.by_example(tmp_path)
    assert example.stdout == f"{request_id} came to 0.00003 USD, and is sealed.\n", example.stderr
    alone = CliRunner().invoke(farebox, ["verify", receipt, "--jwks", str(files.jwks), "--json"])
    assert msgspec.json.decode(alone.output)["statement"]["model_sha256"] == WEIGHTS


async def test_one_row_that_is_changed_after_sealing_fails_the_check(
    http: httpx.AsyncClient, close_the_books: CloseTheBooks, tmp_path: Path
) -> None:
    """As of a server that gives a proof all the same."""
    (first, first_receipt), (second, second_receipt) = await ask(http), await ask(http)
    await close_the_books()
    files = Files(tmp_path)
    for request_id, receipt in ((first, first_receipt), (second, second_receipt)):
        await files.keep(http, request_id, receipt)
        kept = files.proof.read_text()
        changed = kept.replace('\\"output_tokens\\":5', '\\"output_tokens\\":6')
        assert changed != kept
        files.proof.write_text(changed)
        told = files.by_command()
        assert (told.exit_code, "not under its organization's root" in told.output) == (1, True)
        assert (await files.by_example(tmp_path)).returncode == 1


class Forger:
    """Who holds a key that the customer takes for the operator's, and states what was not booked."""

    def __init__(self) -> None:
        private = Ed25519PrivateKey.generate()
        self._sign = StatementSigner(private, kid="own", typ=ROOT_TYPE).sign
        self._public = base64url.encode(private.public_key().public_bytes_raw())

    def state(self, files: Files, **changed: Any) -> None:
        receipt = files.receipt.read_text()
        keys = msgspec.json.decode(files.jwks.read_bytes())
        stated = msgspec.structs.replace(
            verify_receipt(receipt, read_jwks(files.jwks.read_bytes())), **changed
        )
        files.receipt.write_text(ReceiptBatch([stated], self._sign).text(0))
        keys["keys"].append({**keys["keys"][0], "kid": "own", "x": self._public})
        files.jwks.write_bytes(msgspec.json.encode(keys))

    def repeat_the_event(self, files: Files) -> None:
        proof = msgspec.json.decode(files.proof.read_bytes())
        proof["entries"] *= 2
        files.proof.write_bytes(msgspec.json.encode(proof))


@pytest.mark.parametrize("name", [None, "model", "currency", "price_id", "amount"])
async def test_a_receipt_that_states_anything_else_fails_both_checks(
    http: httpx.AsyncClient, close_the_books: CloseTheBooks, tmp_path: Path, name: str | None
) -> None:
    request_id, receipt = await ask(http)
    await close_the_books()
    files = Files(tmp_path)
    await files.keep(http, request_id, receipt)
    Forger().state(files, **({} if name is None else {name: "1"}))
    status = 0 if name is None else 1
    assert (files.by_command().exit_code, (await files.by_example(tmp_path)).returncode) == (status, status)


async def test_a_proof_of_an_event_twice_fails_both_checks(
    http: httpx.AsyncClient, close_the_books: CloseTheBooks, tmp_path: Path
) -> None:
    request_id, receipt = await ask(http)
    await close_the_books()
    files, forger = Files(tmp_path), Forger()
    await files.keep(http, request_id, receipt)
    stated = verify_receipt(receipt, read_jwks(files.jwks.read_bytes()))
    counts = {name: 2 * getattr(stated, name) for name in ("input_tokens", "cached_input_tokens")}
    counts["output_tokens"] = 2 * stated.output_tokens
    forger.state(files, **counts, amount=str(2 * Decimal(stated.amount)))
    forger.repeat_the_event(files)
    example = await files.by_example(tmp_path)
    assert (files.by_command().exit_code, example.returncode) == (1, 1)
    assert example.stderr == "Not proven: the entries.\n"


async def test_nothing_is_signed_of_an_hour_in_which_a_row_was_changed(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, close_the_books: CloseTheBooks
) -> None:
    """Neither of the request that was changed, nor of any other of its hour."""
    (first, _), (second, _) = await ask(http), await ask(http)
    await close_the_books()
    changed = UUID(hex=first.removeprefix("req_"))
    await alter(database, changed)
    for request_id in (first, second):
        for kind in ("proofs", "receipts"):
            answer = await http.get(f"/v1/organization/{kind}/{request_id}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_as_sealed")
    with structlog.testing.capture_logs() as logs, pytest.raises(NotAsSealed):
        async with database.transaction(organization_id=tenant.organization_id) as session:
            await sealed_entries(session, tenant.organization_id, changed)
    (told,) = [each for each in logs if each["event"] == "seals.books_changed"]
    assert (told["log_level"], told["request_id"]) == ("error", str(changed))


async def test_of_a_request_that_is_booked_twice_nothing_is_said(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, close_the_books: CloseTheBooks
) -> None:
    request_id, _ = await ask(http)
    twice = UUID(hex=request_id.removeprefix("req_"))
    await book_twice(database, twice)
    await close_the_books()
    for kind in ("proofs", "receipts"):
        answer = await http.get(f"/v1/organization/{kind}/{request_id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "booked_twice")
    with structlog.testing.capture_logs() as logs, pytest.raises(BookedTwice):
        async with database.transaction(organization_id=tenant.organization_id) as session:
            await find_entries(session, tenant.organization_id, twice)
    assert [(each["log_level"], each["event"]) for each in logs] == [("error", "seals.booked_twice")]


@pytest.mark.parametrize("part", ["leaf", "path", "organization", "organization_path"])
async def test_a_proof_with_any_other_part_is_none(
    http: httpx.AsyncClient, close_the_books: CloseTheBooks, part: str
) -> None:
    (one, receipt), (other, _) = await ask(http), await ask(http)
    await close_the_books()
    keys = read_jwks((await http.get("/.well-known/jwks.json")).content)
    proof = msgspec.convert(await fetch(http, "proofs", one), ProofAnswer)
    leaves = verify_proof(proof, keys)
    compare(verify_receipt(receipt, keys), leaves)
    (entry,) = proof.entries
    text = getattr(entry, part)
    changed = text.replace("5", "6", 1) if part in ("leaf", "organization") else text + "AAAA"
    with pytest.raises(InvalidProof):
        verify_proof(
            msgspec.structs.replace(proof, entries=[msgspec.structs.replace(entry, **{part: changed})]), keys
        )
    strange = msgspec.convert(await fetch(http, "proofs", other), ProofAnswer)
    with pytest.raises(InvalidProof, match="request_id"):
        compare(verify_receipt(receipt, keys), verify_proof(strange, keys))
    short = msgspec.structs.replace(proof.chain, hours=proof.chain.hours[:-1])
    with pytest.raises(InvalidProof, match="chain"):
        verify_proof(msgspec.structs.replace(proof, chain=short), keys)


async def test_before_its_hour_is_sealed_there_is_neither(http: httpx.AsyncClient) -> None:
    request_id, _ = await ask(http)
    for kind in ("proofs", "receipts"):
        assert (await fetch(http, kind, request_id))["error"]["code"] == "not_sealed"


async def test_a_foreign_request_looks_as_one_that_nobody_made(
    http: httpx.AsyncClient, stranger: httpx.AsyncClient, close_the_books: CloseTheBooks
) -> None:
    request_id, _ = await ask(http)
    await close_the_books()
    for kind in ("proofs", "receipts"):
        answers = []
        for wanted in (request_id, f"req_{'0' * 32}", "req_1", "org_" + "0" * 32):
            answer = await stranger.get(f"/v1/organization/{kind}/{wanted}")
            error = answer.json()["error"]
            error.pop("request_id")
            answers.append((answer.status_code, error))
        assert answers == [answers[0]] * 4
        assert answers[0][0] == 404
        assert (await http.get(f"/v1/organization/{kind}/{request_id}")).status_code == 200


async def test_a_receipt_from_the_books_says_what_the_first_one_did(
    http: httpx.AsyncClient, close_the_books: CloseTheBooks
) -> None:
    request_id, receipt = await ask(http)
    await close_the_books()
    keys = read_jwks((await http.get("/.well-known/jwks.json")).content)
    first = verify_receipt(receipt, keys)
    later = verify_receipt((await fetch(http, "receipts", request_id))["receipt"], keys)
    assert msgspec.structs.replace(later, issued_at=first.issued_at) == first


async def test_what_was_taken_back_is_in_the_receipt_and_in_the_proof(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, close_the_books: CloseTheBooks
) -> None:
    request_id, receipt = await ask(http)
    customer = Customer(database, tenant.organization_id)
    await customer.amend(UUID(hex=request_id.removeprefix("req_")), utc_now() + timedelta(hours=1))
    await close_the_books()
    keys = read_jwks((await http.get("/.well-known/jwks.json")).content)
    proof = msgspec.convert(await fetch(http, "proofs", request_id), ProofAnswer)
    leaves = verify_proof(proof, keys)
    later = verify_receipt((await fetch(http, "receipts", request_id))["receipt"], keys)
    assert (later.output_tokens, Decimal(later.amount)) == (0, Decimal(0))
    compare(later, leaves)
    with pytest.raises(InvalidProof, match="input_tokens"):
        compare(verify_receipt(receipt, keys), leaves)
    with pytest.raises(InvalidProof):
        verify_proof(msgspec.structs.replace(proof, entries=proof.entries[1:]), keys)


async def test_a_period_has_the_roots_that_its_invoice_is_counted_from(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, close_the_books: CloseTheBooks
) -> None:
    request_id, _ = await ask(http)
    await close_the_books()
    proof = msgspec.convert(await fetch(http, "proofs", request_id), ProofAnswer)
    start = hour_of(utc_now()) - timedelta(hours=1)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        period = await sealed_period(session, tenant.organization_id, start, start + timedelta(hours=8))
        empty = await sealed_period(session, tenant.organization_id, start - timedelta(days=9), start)
    assert [each.organization for each in period.organizations] == [proof.entries[0].organization]
    assert proof.chain.hours[0] in period.chain.hours
    assert period.newest is not None
    assert (empty.organizations, empty.newest) == ([], None)
