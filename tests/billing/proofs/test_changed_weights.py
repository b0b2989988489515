"""A receipt from the books when a model has other weights since; apart from all other proofs."""

import httpx

from farebox.billing.offers import add_model
from farebox.core.database import Database
from farebox.keys.jws import read_jwks
from farebox.metering.receipts.verification import verify_receipt
from tests.bench.instant import MODEL
from tests.billing.proofs.conftest import WEIGHTS
from tests.billing.proofs.test_proofs import CloseTheBooks, ask, fetch


async def test_weights_that_changed_are_not_guessed(
    http: httpx.AsyncClient, database: Database, close_the_books: CloseTheBooks
) -> None:
    request_id, _ = await ask(http)
    await close_the_books()
    async with database.meter_transaction() as session:
        for sha256 in ("6b" * 32, WEIGHTS):
            await add_model(
                session, model_id=MODEL, path="/", sha256=sha256, context_length=4096, owned_by="tests"
            )
    later, _ = await ask(http)
    await close_the_books()
    keys = read_jwks((await http.get("/.well-known/jwks.json")).content)
    told = [
        verify_receipt((await fetch(http, "receipts", each))["receipt"], keys).model_sha256
        for each in (request_id, later)
    ]
    assert told == [WEIGHTS, None]
