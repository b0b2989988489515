"""What a customer's own prices change in what it is told and billed."""

from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from farebox.billing.prices import add_price
from farebox.billing.terms import Terms, flat
from farebox.billing.tiers import Tariff, Tier
from farebox.core.database import Database
from tests.engine.encoders.checkpoints import build_encoder
from tests.gateway.conftest import MODEL, offer
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

DOCUMENTS = ["The ferry leaves at nine.", "A token is a piece of a word."]


async def agree(database: Database, tenant: Tenant, model: str, terms: Terms) -> None:
    async with database.meter_transaction() as session:
        await add_price(session, model, terms, organization_id=tenant.organization_id)


@pytest.fixture(scope="module")
async def judges(
    server: RunningServer, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A reranker and a classifier, on offer by name."""
    root = tmp_path_factory.mktemp("judges")
    made = {
        name: build_encoder(root / name, "Bert", "ForSequenceClassification", num_labels=labels)
        for name, labels in (("piece-reranker", 1), ("piece-classifier", 3))
    }
    for name, folder in made.items():
        await offer(database, name, folder)
    await server.call(server.gateway.catalog.refresh)
    return made


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rerank", {"model": "piece-reranker", "query": "When?", "documents": DOCUMENTS}),
        ("classify", {"model": "piece-classifier", "input": DOCUMENTS}),
    ],
)
async def test_documents_and_texts_are_sold_by_the_piece(
    http: httpx.AsyncClient,
    judges: dict[str, Path],
    database: Database,
    tenant: Tenant,
    path: str,
    body: dict[str, object],
) -> None:
    nothing = Decimal(0)
    terms = flat(
        input_per_million=nothing,
        cached_input_per_million=nothing,
        output_per_million=nothing,
        currency="USD",
        item_per_million=Decimal(2000),
    )
    await agree(database, tenant, str(body["model"]), terms)
    answer = await http.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert (event.items, event.item_amount, event.amount) == (2, Decimal("0.004"), Decimal("0.004"))


async def test_a_customer_is_told_its_own_tiers(
    http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    tiers = (Tier(0, Decimal(0)), Tier(100, Decimal(3)))
    tariff = Tariff(scheme="graduated", tiers=tiers)
    names = ("input", "cached_input", "output")
    await agree(database, tenant, MODEL, Terms(currency="USD", tariffs=dict.fromkeys(names, tariff)))  # type: ignore[arg-type]
    price = (await http.get(f"/v1/models/{MODEL}")).json()["price"]
    assert (price["scheme"], price["input_per_million"]) == ("graduated", "3.00")
    assert price["tiers"][:2] == [
        {"token_class": "input", "starts_at": 0, "per_million": "0.00"},
        {"token_class": "input", "starts_at": 100, "per_million": "3.00"},
    ]


async def test_an_answer_within_the_allowance_is_free(
    http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    tariff = Tariff(scheme="graduated", tiers=(Tier(0, Decimal(0)), Tier(10_000, Decimal(3))))
    names = ("input", "cached_input", "output")
    await agree(database, tenant, MODEL, Terms(currency="USD", tariffs=dict.fromkeys(names, tariff)))  # type: ignore[arg-type]
    answer = await http.post("/v1/completions", json={"model": MODEL, "prompt": "Nine", "max_tokens": 5})
    assert answer.status_code == 200, answer.text
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert event.amount == 0
    assert event.tiers_from == [0, 0, 0]
    assert event.output_tokens == answer.json()["usage"]["completion_tokens"]
