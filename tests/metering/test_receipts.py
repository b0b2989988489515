"""Receipts of a batch: one signature, and none for what is not booked as it was asked."""

import asyncio
from decimal import Decimal
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.keys.jws import StatementSigner
from farebox.keys.receipt_keys import ROOT_TYPE
from farebox.metering.admission import FrozenPrice
from farebox.metering.backlog import Booked
from farebox.metering.meter import Meter
from farebox.metering.receipts.batch import LATER
from farebox.metering.receipts.issuing import Submission, issue_receipts
from farebox.metering.receipts.statement import PENDING
from farebox.metering.receipts.verification import verify_receipt
from farebox.metering.settlement import Posting, Settled
from tests.metering.factories import assert_books_close, open_account, used
from tests.metering.outages import Outage


class Signer:
    """Signs with a key of its own, and counts."""

    def __init__(self) -> None:
        private = Ed25519PrivateKey.generate()
        self._signer = StatementSigner(private, kid="one", typ=ROOT_TYPE)
        self.keys = {"one": private.public_key()}
        self.signed = 0
        self.broken = False

    def __call__(self, payload: bytes) -> str:
        if self.broken:
            raise RuntimeError("no key")
        self.signed += 1
        return self._signer.sign(payload)


def text_of(settled: Settled) -> str:
    assert settled.receipt is not None
    return settled.receipt.text


async def test_one_signature_serves_a_batch(
    database: Database, database_url: str, settings: Settings, tmp_path: Path
) -> None:
    signer = Signer()
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None, sign=signer)
    account = await open_account(database)
    grants = [await meter.admit(account.admission()) for _ in range(40)]
    settled = await asyncio.gather(
        *(meter.settle(each, used(10, number), model_sha256="ab") for number, each in enumerate(grants))
    )
    assert signer.signed <= 2, "the first goes alone, the others while it is under way"
    statements = [verify_receipt(text_of(each), signer.keys) for each in settled]
    assert [each.output_tokens for each in statements] == list(range(40))
    assert [each.request_id for each in statements] == [f"req_{each.request_id.hex}" for each in grants]
    assert {each.model_sha256 for each in statements} == {"ab"}
    assert [Decimal(each.amount) for each in statements] == [each.amount for each in settled]
    await meter.close()


async def test_what_is_voided_has_none(
    database: Database, database_url: str, settings: Settings, tmp_path: Path
) -> None:
    signer = Signer()
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None, sign=signer)
    account = await open_account(database)
    granted = await meter.admit(account.admission())
    assert (await meter.settle(granted, used(10, 0, status="failed"))).receipt is None
    assert signer.signed == 0
    await meter.close()


async def test_what_is_spooled_has_its_receipt_later(
    outage: Outage, settings: Settings, tmp_path: Path
) -> None:
    signer = Signer()
    database = Database(outage.server.url)
    meter = await Meter.open(settings, outage.server.url, tmp_path / "data", turn_seconds=None, sign=signer)
    account = await open_account(database)
    granted = await meter.admit(account.admission())
    outage.stop()
    settled = await meter.settle(granted, used(10, 5))
    assert settled.spooled
    assert (text_of(settled), signer.signed) == (PENDING, 0)
    outage.start()
    await meter.close()
    await database.close()
    outage.stop()


async def test_a_bill_does_not_fail_with_its_receipt(
    database: Database, database_url: str, settings: Settings, tmp_path: Path
) -> None:
    signer = Signer()
    signer.broken = True
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None, sign=signer)
    account = await open_account(database)
    granted = await meter.admit(account.admission())
    settled = await meter.settle(granted, used(10, 5))
    assert text_of(settled) == PENDING
    await meter.close()
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 1


def test_a_batch_does_not_fail_with_what_cannot_be_stated() -> None:
    price = FrozenPrice(new_id(), Decimal(1), Decimal(1), Decimal(1), "USD")
    terms = (new_id(), new_id(), new_id(), "demo", price, utc_now(), Decimal(1), new_id())
    posting = Posting(*terms, "completed", 1, 0, 1)
    strange = Booked("a lot", as_asked=True)  # type: ignore[arg-type]
    assert issue_receipts([Submission(posting, None)], [strange], Signer()) == [LATER]
