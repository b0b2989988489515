"""The price book and plans, as an operator keeps them: from files, and held against a past month."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.ids import internal
from tests.cli.commands import Farebox
from tests.engine.checkpoints import build_checkpoint

GRADUATED = """
[[price]]
model = "{model}"
scheme = "graduated"
input = [[0, "0.00"], [1000, "2.00"]]
cached_input = "1.00"
output = [[0, "4.00"], [500, "3.00"]]
{more}
"""


@pytest.fixture(scope="module")
def priced(shop: Farebox, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = build_checkpoint(tmp_path_factory.mktemp("priced"))
    shop.json("model", "add", folder, "--name", "priced")
    return "priced"


def book(directory: Path, content: str) -> Path:
    path = directory / "prices.toml"
    path.write_text(content)
    return path


def listed(shop: Farebox, model: str) -> list[dict[str, Any]]:
    prices: list[dict[str, Any]] = shop.json("price", "list", model)
    return prices


def test_a_file_of_prices_is_entered_whole_or_not_at_all(shop: Farebox, priced: str, tmp_path: Path) -> None:
    before = listed(shop, priced)
    good = GRADUATED.format(model=priced, more="")
    refusal = shop.run("price", "load", book(tmp_path, good + good)).refusal
    assert "There is a price of the same model and customer from" in refusal
    assert listed(shop, priced) == before
    assert len(shop.json("price", "load", book(tmp_path, good))["price_ids"]) == 1
    last = [each for each in listed(shop, priced) if each["for"] == "everybody"][-1]
    assert (last["scheme"], last["input"]) == ("graduated", "2.00")
    assert last["tiers"] == (
        "input from 0: 0.00; input from 1,000: 2.00; output from 0: 4.00; output from 500: 3.00"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("price = 3", "is no price book"),
        ("[[price]]\nmodel = 'm'\ninput = '1'\noutptu = '2'", "outptu"),
        ("[[price]]\nmodel = 'm'\ninput = 'NaN'", "is not a price"),
        ("[[price]]\nmodel = 'm'\ninput = '-1'", "lies between 0 and"),
        ("[[price]]\nmodel = 'm'\ninput = '1e3'", "is not a price"),
        ("[[price]]\nmodel = 'm'\ninput = [[5, '1']]\nscheme = 'graduated'", "The first tier starts at 0"),
        ("[[price]]\nmodel = 'nobody'\ninput = '1'", "There is no model `nobody`"),
        ("[[price]]\nmodel = 'priced'\ninput = '1'\nplan = 'none'", "There is no plan `none`"),
        ("[[price]]\nmodel = 'priced'\ninput = '1'\norganization = 'org_1'", "No such organization"),
        ("[[price]]\nmodel = 'priced'\ninput = '1'\neffective_from = 2020-01-01T00:00:00Z", "in the past"),
        ("[[price]]\nmodel = 'priced'\ninput = '1'\neffective_until = 2099-01-01T00:00:00Z", "has an end"),
        ("\udce4", "is no price book"),
    ],
)
def test_a_wrong_file_is_told_where(
    shop: Farebox, priced: str, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = listed(shop, priced)
    assert said in shop.run("price", "load", path).refusal
    assert listed(shop, priced) == before


async def test_a_contract_ends_and_may_not_meet_another(
    shop: Farebox, priced: str, tmp_path: Path, organization: str
) -> None:
    contract = GRADUATED.format(
        model=priced,
        more=f'organization = "{organization}"\n'
        "effective_from = 2091-01-01T00:00:00Z\neffective_until = 2092-01-01T00:00:00Z",
    )
    shop.json("price", "load", book(tmp_path, contract))
    meeting = contract.replace("2091-01-01", "2091-06-01").replace("2092-01-01", "2093-01-01")
    assert (
        "2091-01-01T00:00:00Z to 2092-01-01T00:00:00Z"
        in shop.run("price", "load", book(tmp_path, meeting)).refusal
    )
    following = contract.replace("2092-01-01", "2093-01-01").replace("2091-01-01", "2092-01-01")
    shop.json("price", "load", book(tmp_path, following))
    theirs = [each for each in listed(shop, priced) if each["for"] == organization]
    assert [each["until"][:4] for each in theirs] == ["2092", "2093"]


async def test_a_past_month_is_held_against_a_draft(
    shop: Farebox, shop_database: Database, priced: str, tmp_path: Path
) -> None:
    founded = shop.json("org", "create", "Drafted")
    await add_month(shop_database, founded, priced)
    draft = book(tmp_path, GRADUATED.format(model=priced, more=""))
    (row,) = drafted_for(shop, draft)
    # Of 3,000 input tokens 1,000 are free; 500 of the 600 output tokens cost 4.00 a million, the rest 3.00.
    drafted = (2000 * 2 + 100 * 1 + 500 * 4 + 100 * 3) / 1_000_000
    assert (row["organization"], row["model"], row["billed"]) == ("Drafted", priced, "0.01")
    assert float(row["drafted"]) == pytest.approx(drafted)
    assert float(row["difference"]) == pytest.approx(drafted - 0.01)
    other = book(tmp_path, GRADUATED.format(model="another", more=""))
    (row,) = drafted_for(shop, other)
    assert (row["drafted"], row["difference"]) == (None, "0.00")
    assert "No usage in 2019-01." in shop.run("price", "draft", other, "--month", "2019-01").out
    assert "write it like" in shop.run("price", "draft", other, "--month", "2026-13").err


def drafted_for(shop: Farebox, draft: Path) -> list[dict[str, Any]]:
    """Other tests' customers have months, too."""
    rows = shop.json("price", "draft", draft, "--month", "2026-02")
    return [row for row in rows if row["organization"] == "Drafted"]


async def add_month(database: Database, founded: dict[str, str], model: str) -> None:
    async with database.meter_transaction() as session:
        await session.execute(
            text(
                "INSERT INTO usage_hour (organization_id, hour, project_id, api_key_id, model_id, currency,"
                " requests, input_tokens, cached_input_tokens, output_tokens, amount, input_amount,"
                " cached_input_amount)"
                " VALUES (:organization, '2026-02-10T10:00Z', :project, :project, :model, 'USD',"
                " 3, 3000, 100, 600, 0.01, 0.005, 0.001)"
            ),
            {
                "organization": internal("org", founded["organization_id"]),
                "project": internal("proj", founded["project_id"]),
                "model": model,
            },
        )


def test_plans_are_made_given_and_retired(shop: Farebox) -> None:
    organization = shop.json("org", "create", "Planned")["organization_id"]
    shop.json("plan", "create", "Team", "--monthly-fee", "49.00", "--credit-line", "100.00")
    assert "There is a plan `Team` already" in shop.run("plan", "create", "Team").refusal
    assert "It has the plan Team" in shop.run("plan", "give", organization, "Team").out
    shop.json("plan", "retire", "Team")
    (team,) = [each for each in shop.json("plan", "list") if each["name"] == "Team"]
    assert (team["monthly_fee"], team["credit_line"], team["retired"]) == ("49.00", "100.00", True)
    assert "is retired" in shop.run("plan", "give", organization, "Team").refusal
    assert shop.json("plan", "give", organization) == {"plan": None}


def test_money_of_an_organization(shop: Farebox) -> None:
    organization = shop.json("org", "create", "Moneyed")["organization_id"]
    grant = ("org", "grant", organization, "5.00", "--reference", "welcome", "--expires", "2099-12-31")
    assert [shop.json(*grant)["given"] for _ in range(2)] == [True, False]
    assert shop.json("org", "credit-line", organization, "50.00") == {"credit_line": "50.00"}
    accounts = {each["account"]: each["amount"] for each in shop.json("org", "accounts", organization)}
    assert accounts == {"promotion": "-5.00", "promotional": "5.00"}
    assert "in the future" in shop.run(*grant[:5], "other", "--expires", "2020-01-01").refusal
    assert "is no date" in shop.run(*grant[:5], "other", "--expires", "soon").err
