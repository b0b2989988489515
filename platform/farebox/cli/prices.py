"""`farebox price`."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import rich_click as click

from farebox.billing.months import Month
from farebox.billing.price_files import enter_prices, read_price_file
from farebox.billing.prices import PricedFor, list_prices
from farebox.billing.repricing import Repriced, reprice
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso
from farebox.core.ids import external
from farebox.core.money import plain

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def price() -> None:
    """The price book: tiers, contracts, prices of plans."""


@price.command()
@click.argument("file", type=FILE)
@json_option
def load(file: Path, as_json: bool) -> None:
    """Enter all prices of a TOML file, or none. What was admitted before is billed at the former ones."""
    prices = read_price_file(file)

    async def work(operation: Operation) -> list[str]:
        async with operation.database.meter_transaction() as session:
            entered = await enter_prices(session, prices, operation.settings.currency)
        return [str(price_id) for price_id in entered]

    entered = operate(work)
    if as_json:
        answer_json({"price_ids": entered})
    else:
        click.echo(f"{len(entered)} prices entered.")


@price.command("list")
@click.argument("model", required=False)
@json_option
def list_(model: str | None, as_json: bool) -> None:
    """All prices, of one model or of all, with those of the past and of the future."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            return [_describe(each) for each in await list_prices(session, model)]

    answer_rows(operate(work), as_json=as_json, nothing="No price yet.")


@price.command()
@click.argument("file", type=FILE)
@click.option("--month", type=identifiers.MONTH, required=True, help="A past month, like 2026-11.")
@json_option
def draft(file: Path, month: Month, as_json: bool) -> None:
    """What a past month would have come to at a file's prices, for each customer. Nothing is changed."""
    prices = read_price_file(file)

    async def work(operation: Operation) -> list[Repriced]:
        async with operation.database.meter_transaction() as session:
            return await reprice(session, month, prices, operation.settings.currency)

    repriced = operate(work)
    rows = [_compare(each) for each in repriced]
    answer_rows(rows, as_json=as_json, nothing=f"No usage in {month}.")
    if rows and not as_json:
        for currency in sorted({each.usage.currency for each in repriced}):
            its = [each for each in repriced if each.usage.currency == currency]
            difference = sum((each.difference for each in its), Decimal(0))
            click.echo(f"Total difference: {plain(difference, currency)} {currency}.")


def _compare(each: Repriced) -> dict[str, Any]:
    currency = each.usage.currency
    return {
        "organization_id": external("org", each.usage.organization_id),
        "organization": each.usage.organization,
        "model": each.usage.model,
        "billed": plain(each.usage.amount, currency),
        "drafted": None if each.drafted is None else plain(each.drafted, currency),
        "difference": plain(each.difference, currency),
        "currency": currency,
    }


def _describe(each: PricedFor) -> dict[str, Any]:
    price, currency = each.price, each.price.currency
    return {
        "model": price.model_id,
        "for": each.plan
        or (external("org", price.organization_id) if price.organization_id else "everybody"),
        "scheme": price.scheme,
        "input": plain(price.input_per_million, currency),
        "cached_input": plain(price.cached_input_per_million, currency),
        "output": plain(price.output_per_million, currency),
        "item": plain(price.item_per_million, currency),
        "currency": currency,
        "from": iso(price.effective_from),
        "until": iso(price.effective_until) if price.effective_until else None,
        "tiers": each.tiers or None,
        "package_tokens": price.package_tokens,
        "id": str(price.id),
    }
