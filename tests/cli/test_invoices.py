"""`farebox invoice`: the guide's commands, what they answer, and what they refuse."""

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farebox.core.database import Database
from farebox.core.ids import external, new_id
from tests.billing.invoices.books import MONTH, SELLER, Books, day
from tests.cli.commands import Farebox
from tests.conftest import ROOT
from tests.metering.factories import Account

GUIDE, TUTORIAL = ROOT / "docs" / "invoices.md", ROOT / "docs" / "first-invoice.md"


@pytest.fixture
def seller(shop: Farebox) -> Farebox:
    return shop.set(
        issuer_name=str(SELLER.issuer_name),
        issuer_address=str(SELLER.issuer_address),
    )


@pytest.fixture
async def debtor(shop_database: Database, shop_url: str) -> Account:
    """Has used 12.00 USD on a credit line in the month, and paid nothing."""
    books = Books(shop_database, shop_url, SELLER)
    account = await books.customer(line=100)
    await books.use(account, day(3), input_tokens=12_000_000)
    return account


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run_all(seller: Farebox, page: Path, organization: str) -> dict[str, str]:
    """The page's commands in their order; what stands for its names in them."""
    told = {"ORG": organization, "MONTH": str(MONTH)}
    for command in commands(page):
        if "$NUMBER" in command and "NUMBER" not in told:
            (row,) = seller.json("invoice", "list", "--organization", organization)
            told["NUMBER"] = row["number"]
        words = shlex.split(re.sub(r"\$([A-Z]+)", lambda match: told[match[1]], command))
        assert words[0] == "farebox"
        answer = seller.run(*words[1:])
        assert answer.status == 0, (command, answer.err)
        assert answer.out, command
    return told


async def test_the_commands_of_the_guide_work_in_their_order(seller: Farebox, debtor: Account) -> None:
    assert len(commands(GUIDE)) >= 10
    told = run_all(seller, GUIDE, external("org", debtor.organization_id))
    after = seller.json("invoice", "show", told["NUMBER"])
    assert (after["status"], after["amount_credited"]) == ("void", "12.00")
    assert after["document"]["customer"]["name"] == "Acme GmbH"
    assert (Path(seller.directory) / "invoice.pdf").read_bytes().startswith(b"%PDF")


async def test_the_tutorial_ends_with_an_invoice_that_somebody_pays(seller: Farebox, debtor: Account) -> None:
    told = run_all(seller, TUTORIAL, external("org", debtor.organization_id))
    after = seller.json("invoice", "show", told["NUMBER"])
    assert (after["status"], after["amount_open"]) == ("open", "11.00")


async def test_what_is_closed_is_listed_paid_and_credited(seller: Farebox, debtor: Account) -> None:
    organization = external("org", debtor.organization_id)
    assert seller.json("invoice", "preview", organization, "--month", "2025-03")["amount_due"] == "12.00"
    closing = ("invoice", "close", "--month", "2025-03", "--organization", organization)
    (closed,) = seller.json(*closing)
    number = closed["number"]
    assert seller.json(*closing) == []
    assert "Nothing is left" in seller.run(*closing).out
    paying = ("invoice", "pay", number, "5", "--reference", "bank 1")
    assert [seller.json(*paying)["taken_in"] for _ in range(2)] == [True, False]
    assert "Taken in before" in seller.run(*paying).out
    crediting = ("invoice", "credit", number, "--line", "1", "--amount", "2.50", "--reason", "slow")
    note = seller.json(*crediting)
    assert (note["kind"], note["total"]) == ("credit_note", "2.50")
    assert note["number"] in seller.run(*crediting).out
    (row,) = seller.json("invoice", "list", "--organization", organization, "--status", "open")
    assert (row["number"], row["due"], row["open"]) == (number, "12.00", "4.50")
    assert note["number"] in seller.run("invoice", "show", number).out
    written = seller.json("invoice", "pdf", note["number"])
    assert (Path(seller.directory) / written["path"]).stat().st_size == written["bytes"]


async def test_details_are_set_one_by_one(shop: Farebox, organization: str) -> None:
    shop.json("invoice", "details", organization, "--name", "Acme GmbH", "--address", "Kai 1; Hamburg")
    changed = shop.json("invoice", "details", organization, "--language", "zh-Hans", "--name", "")
    assert (changed["name"], changed["address"]) == (None, ["Kai 1", "Hamburg"])
    assert changed["language"] == "zh-Hans"
    assert shop.json("invoice", "details", organization) == changed
    assert "Kai 1, Hamburg" in shop.run("invoice", "details", organization).out


async def test_what_cannot_be_done_is_said(shop: Farebox, seller: Farebox, debtor: Account) -> None:
    organization = external("org", debtor.organization_id)
    closing = ("invoice", "close", "--month", "2025-03", "--organization", organization)
    unnamed = shop.spawn(*closing)
    assert unnamed.status == 1
    assert "FAREBOX_ISSUER_NAME" in unnamed.out
    # The alarm: the worker logs the same.
    (told,) = [json.loads(line) for line in unnamed.err.splitlines() if "invoice.month_not_closed" in line]
    assert (told["level"], told["month"], told["organization_id"]) == ("error", "2025-03", organization)
    assert "FAREBOX_ISSUER_NAME" in told["reason"]
    now = f"{datetime.now(UTC):%Y-%m}"
    assert "has not ended" in seller.run("invoice", "close", "--month", now).refusal
    (closed,) = seller.json(*closing)
    number = closed["number"]
    for words, said in (
        (("show", "INV-1"), "No such invoice"),
        (("pay", number, "x", "--reference", "y"), "not an amount"),
        (("pay", number, "0", "--reference", "y"), "positive amount"),
        (("credit", number, "--amount", "1", "--reason", "y"), "--amount needs --line"),
        (("credit", number, "--line", "1", "--amount", "13", "--reason", "y"), "No more than 12.00"),
        (("close", "--month", "march"), "2026-11"),
        (("pdf", number, "--output", "/nowhere/at/all.pdf"), "cannot be written"),
        (("details", organization, "--country", "Germany"), "`country` is wrong"),
        (("details", external("org", new_id()), "--name", "x"), "No such organization"),
    ):
        assert said in seller.run("invoice", *words).refusal, words
