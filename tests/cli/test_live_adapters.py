"""Adapters are sold as models of their own, in the engine of the model they are for."""

import shutil
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from farebox.billing.offers import remove_model
from farebox.core.database import Database
from farebox.gateway.models.catalog import POLL_SECONDS
from farebox.gateway.models.checkpoints import hash_checkpoint
from tests.cli.commands import Farebox, shell
from tests.cli.conftest import MakeDatabase
from tests.cli.live import Customer, make_customer
from tests.cli.processes import running
from tests.engine.checkpoints import build_checkpoint
from tests.engine.lora.adapters import build_adapter, merged
from tests.waiting import eventually

# Whole servers, on a machine that may be busy: two minutes.
pytestmark = pytest.mark.slow

LONG = 3_000
AT_ONCE = POLL_SECONDS / 2


@pytest.fixture(scope="module")
async def url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture(scope="module")
def operator(url: str, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    operator = shell(tmp_path_factory.mktemp("live"), url, default_tokens_per_minute="1000000000")
    operator.json("migrate")
    return operator


@pytest.fixture(scope="module")
async def customer(operator: Farebox) -> AsyncIterator[Customer]:
    async with running(operator, "serve", until="API") as server:
        customer = make_customer(operator, server.url)
        yield customer
        await customer.http.aclose()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("models") / "base", max_position_embeddings=4096)


async def text(customer: Customer, model: str) -> str:
    answer = await customer.complete(model, max_tokens=24)
    assert answer.status_code == 200
    return str(answer.json()["choices"][0]["text"])


async def test_adapters_are_sold_under_names_and_prices_of_their_own(
    operator: Farebox, customer: Customer, base: Path, database: Database, tmp_path: Path
) -> None:
    folder = build_adapter(tmp_path / "tuned", base, ["q_proj", "v_proj", "up_proj"])
    refusal = operator.run("model", "add", folder, "--name", "base:tuned").refusal
    assert "base is not" in refusal
    operator.json("model", "add", base, "--name", "base")
    assert "BASE:ADAPTER" in operator.run("model", "add", folder, "--name", "tuned").refusal
    added = operator.json("model", "add", folder, "--name", "base:tuned")
    assert added["sha256"] == hash_checkpoint(folder)
    whole = tmp_path / "whole"
    shutil.copytree(base, whole)
    merged(base, folder).save_pretrained(whole)
    operator.json("model", "add", whole, "--name", "whole")
    operator.json("model", "price", "base:tuned", "--input", "7", "--output", "11")

    async def are_served() -> bool:
        return {"base", "base:tuned", "whole"} <= set(await customer.models())

    await eventually(are_served, AT_ONCE)
    assert await text(customer, "base:tuned") == await text(customer, "whole") != await text(customer, "base")
    assert await customer.fingerprint("base:tuned") == f"fp_{added['sha256'][:12]}"
    (row,) = [row for row in operator.json("usage", "show") if row["model"] == "base:tuned"]
    assert Decimal(row["amount"]) == Decimal(7 * row["input_tokens"] + 11 * row["output_tokens"]) / 1_000_000
    metrics = (await customer.http.get("/metrics")).text
    steps = [line for line in metrics.splitlines() if line.startswith("farebox_engine_busy_seconds_total")]
    assert [line.partition("}")[0].partition("{")[2] for line in steps] == ['model="base"', 'model="whole"']
    findings = operator.run("doctor", "--json").out
    assert "base, base:tuned, whole" in findings

    async with customer.streaming("base:tuned", max_tokens=LONG) as stream:
        async with database.meter_transaction() as session:
            await remove_model(session, "base")

        async def is_told_of() -> bool:
            return "base:tuned" in (await customer.readiness())[1]["failed_models"]

        await eventually(is_told_of, AT_ONCE)
        assert not stream.done, "what is under way finishes"
    assert (stream.done, stream.finish_reason) == (True, "length")
    assert (await customer.complete("base:tuned")).status_code == 404
    listed = [row["id"] for row in operator.json("model", "list")]
    assert "base:tuned" not in listed, "what cannot be called is not listed"
    assert "whole" in listed
    # Other weights come back under the base's name: the adapter moves to them.
    operator.json("model", "add", whole, "--name", "base")
    await eventually(are_served, AT_ONCE)
    assert await text(customer, "base") == await text(customer, "whole") != await text(customer, "base:tuned")
    assert (await customer.readiness())[1]["failed_models"] == {}


async def test_an_adapter_follows_its_base_to_other_weights(
    operator: Farebox, customer: Customer, base: Path, tmp_path: Path
) -> None:
    """And a retired load of it does not take its successor along."""
    folder = build_adapter(tmp_path / "tuned", base, ["o_proj"])
    operator.json("model", "add", base, "--name", "moving")
    operator.json("model", "add", folder, "--name", "moving:tuned")

    async def is_served() -> bool:
        return "moving:tuned" in await customer.models()

    await eventually(is_served, AT_ONCE)
    before = await text(customer, "moving:tuned")
    other = build_checkpoint(tmp_path / "other", seed=4, max_position_embeddings=4096)
    async with customer.streaming("moving:tuned", max_tokens=LONG) as stream:
        operator.json("model", "add", other, "--name", "moving")

        async def has_moved() -> bool:
            return await text(customer, "moving:tuned") != before

        await eventually(has_moved, AT_ONCE)
    assert stream.done
    after = await text(customer, "moving:tuned")
    whole = tmp_path / "whole"
    shutil.copytree(other, whole)
    merged(other, folder).save_pretrained(whole)
    operator.json("model", "add", whole, "--name", "moved")

    async def is_there() -> bool:
        return "moved" in await customer.models()

    await eventually(is_there, AT_ONCE)
    assert after == await text(customer, "moved")
