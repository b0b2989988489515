"""Models come, change and go on a running server; what is under way is never disturbed."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from farebox.billing.offers import add_model, remove_model
from farebox.core.database import Database
from farebox.gateway.models.catalog import POLL_SECONDS
from farebox.gateway.models.checkpoints import hash_checkpoint
from tests.cli.commands import Farebox, shell
from tests.cli.conftest import MakeDatabase
from tests.cli.live import Customer, make_customer
from tests.cli.processes import Running, running
from tests.engine.checkpoints import build_checkpoint
from tests.waiting import eventually

CONTEXT = 4096
LONG = 3_000
# Well below the poll: what happens within it, NOTIFY has brought about.
AT_ONCE = POLL_SECONDS / 2


@pytest.fixture(scope="module")
async def url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture(scope="module")
def operator(url: str, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    operator = shell(
        tmp_path_factory.mktemp("live"),
        url,
        default_tokens_per_minute="1000000000",
        default_requests_per_minute="1000000",
    )
    operator.json("migrate")
    return operator


@pytest.fixture(scope="module")
async def server(operator: Farebox) -> AsyncIterator[Running]:
    async with running(operator, "serve", until="API") as server:
        yield server


@pytest.fixture(scope="module")
async def customer(operator: Farebox, server: Running) -> AsyncIterator[Customer]:
    customer = make_customer(operator, server.url)
    yield customer
    await customer.http.aclose()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def steady(operator: Farebox, customer: Customer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that is on offer all the while."""
    folder = tmp_path_factory.mktemp("models") / "steady"
    operator.json(
        "model", "add", build_checkpoint(folder, max_position_embeddings=CONTEXT), "--name", "steady"
    )

    async def is_served() -> bool:
        return "steady" in await customer.models()

    await eventually(is_served)
    return "steady"


async def offer(database: Database, folder: Path, model_id: str) -> None:
    """What `farebox model add` writes, without the seconds that a new process takes to get there."""
    async with database.meter_transaction() as session:
        await add_model(
            session,
            model_id=model_id,
            path=str(folder),
            sha256=hash_checkpoint(folder),
            context_length=CONTEXT,
            owned_by="tests",
        )


async def test_an_added_model_is_callable_at_the_default_price_without_a_restart(
    operator: Farebox, customer: Customer, tmp_path: Path
) -> None:
    assert (await customer.complete("added")).status_code == 404
    added = operator.json("model", "add", build_checkpoint(tmp_path / "added"), "--name", "added")

    async def is_served() -> bool:
        return "added" in await customer.models()

    await eventually(is_served, AT_ONCE)
    answer = await customer.complete("added", max_tokens=5)
    assert answer.status_code == 200
    assert answer.json()["system_fingerprint"] == f"fp_{added['sha256'][:12]}"
    usage = answer.json()["usage"]
    (row,) = [row for row in operator.json("usage", "show") if row["model"] == "added"]
    assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (
        1,
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    million = Decimal(1_000_000)
    assert (
        Decimal(row["amount"])
        == (usage["prompt_tokens"] * Decimal("0.50") + usage["completion_tokens"] * Decimal("1.50")) / million
    )


@pytest.mark.slow
async def test_a_replaced_model_finishes_its_streams_on_the_old_weights(
    customer: Customer, database: Database, steady: str, tmp_path: Path
) -> None:
    async with customer.streaming(steady, max_tokens=LONG) as undisturbed:
        pass
    old = undisturbed.fingerprint
    folder = build_checkpoint(tmp_path / "new", seed=7, max_position_embeddings=CONTEXT)
    async with customer.streaming(steady, max_tokens=LONG) as stream:
        await offer(database, folder, steady)

        async def is_new() -> bool:
            return await customer.fingerprint(steady) != old

        await eventually(is_new, AT_ONCE)
        assert not stream.done, "the new weights answer while the old ones still do"
    assert stream.done
    assert (stream.text, stream.fingerprint, stream.finish_reason) == (undisturbed.text, old, "length")
    assert await customer.fingerprint(steady) == f"fp_{hash_checkpoint(folder)[:12]}"


@pytest.mark.slow
async def test_a_removed_model_finishes_its_streams(
    operator: Farebox, customer: Customer, database: Database, steady: str, tmp_path: Path
) -> None:
    folder = build_checkpoint(tmp_path / "leaving", max_position_embeddings=CONTEXT)
    operator.json("model", "add", folder, "--name", "leaving")

    async def is_served() -> bool:
        return "leaving" in await customer.models()

    async def is_gone() -> bool:
        return (await customer.complete("leaving")).status_code == 404

    await eventually(is_served, AT_ONCE)
    async with customer.streaming("leaving", max_tokens=LONG) as stream:
        async with database.meter_transaction() as session:
            await remove_model(session, "leaving")
        await eventually(is_gone, AT_ONCE)
        assert not stream.done
    assert stream.done
    assert stream.usage is not None
    assert stream.usage["completion_tokens"] == LONG
    assert steady in await customer.models()


@pytest.mark.slow
async def test_a_folder_that_fails_to_load_disturbs_nobody_and_is_told_of(
    operator: Farebox, customer: Customer, database: Database, steady: str, tmp_path: Path
) -> None:
    """As when the folder is whole where the operator sits, and not where the server runs."""
    folder = build_checkpoint(tmp_path / "broken", max_position_embeddings=CONTEXT)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"llama"', '"mystery"'))

    async def is_told_of() -> bool:
        return "broken" in (await customer.readiness())[1]["failed_models"]

    async with customer.streaming(steady, max_tokens=LONG) as stream:
        await offer(database, folder, "broken")
        await eventually(is_told_of, AT_ONCE)
        assert not stream.done
    assert (stream.done, stream.error) == (True, None)
    status, readiness = await customer.readiness()
    assert (status, readiness["ready"]) == (200, True)
    assert "'mystery' are not supported" in readiness["failed_models"]["broken"]
    assert steady in readiness["models"]
    assert (await customer.complete("broken")).status_code == 404
    findings = json.loads(operator.run("doctor", "--json").out)
    assert any(f["state"] == "failure" and "'mystery' are not supported" in f["detail"] for f in findings)
    # Mended in place, and offered again: same path, same weights.
    (folder / "config.json").write_text(config)
    operator.json("model", "add", folder, "--name", "broken")

    async def is_served() -> bool:
        return "broken" in await customer.models()

    await eventually(is_served, AT_ONCE)
    assert "broken" not in (await customer.readiness())[1]["failed_models"]
    assert (await customer.complete("broken")).status_code == 200


@pytest.mark.slow
async def test_a_replacement_that_fails_to_load_leaves_the_old_weights_in_place(
    customer: Customer, database: Database, steady: str, tmp_path: Path
) -> None:
    before = await customer.fingerprint(steady)
    folder = build_checkpoint(tmp_path / "truncated", seed=9, max_position_embeddings=CONTEXT)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    async def is_told_of() -> bool:
        return steady in (await customer.readiness())[1]["failed_models"]

    await offer(database, folder, steady)
    await eventually(is_told_of, AT_ONCE)
    assert await customer.fingerprint(steady) == before
