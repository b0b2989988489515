"""What an operator does all day: organizations, keys, models, prices, usage. Each answer is JSON, too."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from farebox.billing.ledger import ledger_balance
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.ids import external, internal
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.keys.service import Principal, authenticate
from farebox.keys.tokens import Keyring
from tests.cli.commands import Farebox
from tests.engine.checkpoints import build_checkpoint
from tests.tenants.factories import SECRET_KEY, make_account
from tests.usage.usage_history import add_usage


async def authenticated(database: Database, token: str) -> Principal:
    keyring = await Keyring.load(database, Settings(secret_key=SECRET_KEY))
    return await authenticate(database, await keyring.resolve(token))


def test_migrating_twice_changes_nothing(shop: Farebox) -> None:
    again = shop.json("migrate")
    assert again["before"] == again["after"]
    assert again["partitions"] == []
    assert "partitions added: 0" in shop.run("migrate").out


def test_openapi_needs_no_database(tmp_path: Path) -> None:
    document = Farebox(tmp_path).run("openapi").json()
    assert "/v1/chat/completions" in document["paths"]


async def test_an_organization_is_founded_with_an_owner(shop: Farebox, shop_database: Database) -> None:
    await make_account(shop_database, email="ada@example.com")
    made = shop.json("org", "create", "Analytical", "--owner", "Ada@example.com")
    assert internal("org", made["organization_id"])
    assert internal("proj", made["project_id"])
    listed = {row["id"]: row for row in shop.json("org", "list")}
    assert listed[made["organization_id"]]["name"] == "Analytical"
    assert listed[made["organization_id"]]["balance"] == "0.00"
    table = shop.run("org", "list").out
    assert made["organization_id"] in table


async def test_credit_is_counted_once_per_reference(shop: Farebox, shop_database: Database) -> None:
    founded = shop.json("org", "create", "Funded")["organization_id"]
    arguments = ("org", "credit", founded, "25.50", "--reference", "receipt 7")
    assert [shop.json(*arguments)["added"] for _ in range(2)] == [True, False]
    assert "Added before" in shop.run(*arguments).out
    async with shop_database.transaction(organization_id=internal("org", founded)) as session:
        assert str(await ledger_balance(session, internal("org", founded))) == "25.500000000000"
    assert next(row for row in shop.json("org", "list") if row["id"] == founded)["balance"] == "25.50"


async def test_a_wrong_credit_is_taken_back_as_far_as_it_is_left(
    shop: Farebox, shop_database: Database
) -> None:
    founded = shop.json("org", "create", "Overpaid")["organization_id"]
    shop.json("org", "credit", founded, "1000", "--reference", "receipt 8")
    assert (
        "reference `receipt 8` was used"
        in shop.run("org", "debit", founded, "1000", "--reason", "receipt 8").refusal
    )
    arguments = ("org", "debit", founded, "990", "--reason", "a cypher too many")
    assert [shop.json(*arguments)["taken_back"] for _ in range(2)] == [True, False]
    assert "Taken back before" in shop.run(*arguments).out
    refusal = shop.run("org", "debit", founded, "10.01", "--reason", "greed").refusal
    assert "No more than 10.00 USD is left" in refusal
    async with shop_database.transaction(organization_id=internal("org", founded)) as session:
        assert str(await ledger_balance(session, internal("org", founded))) == "10.000000000000"
    assert shop.json("org", "debit", founded, "10", "--reason", "greed") == {"taken_back": True}
    assert next(row for row in shop.json("org", "list") if row["id"] == founded)["balance"] == "0.00"


async def test_a_key_works_until_it_is_revoked(
    shop: Farebox, shop_database: Database, organization: str
) -> None:
    options = ("--scope", "admin", "--scope", "inference", "--model", "small", "--days", "3", "--name", "Ci")
    made = shop.json("key", "create", "--organization", organization, *options)
    principal = await authenticated(shop_database, made["api_key"])
    assert external("org", principal.organization_id) == organization
    assert external("proj", principal.project_id) == made["project_id"]
    assert principal.scopes == frozenset({"admin", "inference"})
    assert principal.models == frozenset({"small"})
    listed = shop.json("key", "list", "--organization", organization)
    row = next(row for row in listed if row["id"] == made["id"])
    assert (row["state"], row["name"], row["ends_in"]) == ("active", "Ci", made["api_key"][-4:])
    assert row["expires_at"] == made["expires_at"]
    assert made["api_key"] not in str(listed)
    assert shop.json("key", "revoke", made["id"]) == {"id": made["id"], "revoked": True}
    assert shop.run("key", "revoke", made["id"]).status == 0, "twice changes nothing"
    with pytest.raises(InvalidApiKey):
        await authenticated(shop_database, made["api_key"])
    assert "revoked" in shop.run("key", "list", "--organization", organization).out


def test_only_the_key_itself_is_on_standard_output(shop: Farebox, organization: str) -> None:
    answer = shop.run("key", "create", "--organization", organization)
    assert answer.out.startswith("fb_live_")
    assert len(answer.out.split()) == 1
    assert "Shown once" in answer.err


def test_a_model_is_offered_priced_and_removed(shop: Farebox, tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "tiny", max_position_embeddings=512)
    added = shop.json("model", "add", folder, "--name", "tiny", "--owned-by", "us")
    assert (added["id"], added["context_length"], added["path"]) == ("tiny", 512, str(folder))
    assert len(added["sha256"]) == 64
    row = next(row for row in shop.json("model", "list") if row["id"] == "tiny")
    assert (row["input"], row["cached_input"], row["output"]) == ("0.50", "0.25", "1.50")
    assert shop.json("model", "price", "tiny", "--input", "2", "--output", "3.000001")["price_id"]
    assert shop.run("model", "add", folder, "--name", "tiny").status == 0, "added again"
    row = next(row for row in shop.json("model", "list") if row["id"] == "tiny")
    assert (row["input"], row["cached_input"], row["output"]) == ("2.00", "2.00", "3.000001")
    tomorrow = (utc_now() + timedelta(days=2)).strftime("%Y-%m-%d")
    later = shop.run("model", "price", "tiny", "--input", "9", "--output", "9", "--from", tomorrow)
    assert f"from {tomorrow}T00:00:00Z on" in later.out
    assert next(row for row in shop.json("model", "list") if row["id"] == "tiny")["input"] == "2.00"
    assert shop.json("model", "remove", "tiny") == {"id": "tiny", "removed": True}
    assert "tiny" not in [row["id"] for row in shop.json("model", "list")]


async def test_usage_is_summed_by_organization_and_model(
    shop: Farebox, shop_database: Database, organization: str
) -> None:
    key = shop.json("key", "create", "--organization", organization)
    assert shop.json("usage", "show", "--organization", organization) == []
    assert "No usage" in shop.run("usage", "show", "--organization", organization).out
    for days in (0, 1, 40):
        await add_usage(
            shop_database,
            organization_id=internal("org", organization),
            project_id=internal("proj", key["project_id"]),
            api_key_id=internal("key", key["id"]),
            at=utc_now() - timedelta(days=days),
            model="demo",
            input_tokens=1_000,
            cached_input_tokens=200,
            output_tokens=500,
        )
    row = {
        "organization_id": organization,
        "organization": "Acme",
        "model": "demo",
        "requests": 2,
        "input_tokens": 2_000,
        "cached_input_tokens": 400,
        "output_tokens": 1_000,
        "amount": "0.0042",
        "currency": "USD",
    }
    assert shop.json("usage", "show") == [row]
    assert shop.json("usage", "show", "--organization", organization) == [row]
    assert shop.json("usage", "show", "--organization", external("org", UUID(int=1))) == []
    assert shop.json("usage", "show", "--days", "60")[0]["requests"] == 3
    day = f"{utc_now() - timedelta(days=40):%Y-%m-%d}"
    assert shop.json("usage", "show", "--from", day, "--to", day)[0]["requests"] == 1
    assert shop.json("usage", "show", "--from", day)[0]["requests"] == 3
    assert "Total: 3 requests, 5,100 tokens, 0.0063 USD." in shop.run("usage", "show", "--from", day).out


def test_signing_keys_are_rotated_listed_and_retired(shop: Farebox) -> None:
    former = shop.json("keys", "rotate")["kid"]
    present = shop.json("keys", "rotate")["kid"]
    assert [row["kid"] for row in shop.json("keys", "list")][:2] == [present, former]
    assert "is good no longer. Go on?" in shop.run("keys", "retire", former).out, "it asks first"
    assert shop.json("keys", "list")[1]["retired_at"] is None
    assert shop.json("keys", "retire", former, "--yes") == {"kid": former, "retired": True}
    assert shop.json("keys", "list")[1]["retired_at"]
    assert "in use" in shop.run("keys", "retire", present, "--yes").refusal
