"""`farebox model`."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich_click as click

from farebox.billing.models import ModelOffer, Price
from farebox.billing.offers import active_models, remove_model
from farebox.billing.prices import current_prices, set_price
from farebox.billing.terms import parse_price
from farebox.cli.offering import offer_checkpoint
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso
from farebox.core.errors import BadRequest
from farebox.core.money import plain
from farebox.gateway.models.adapters import base_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*")


@click.group()
def model() -> None:
    """Models for sale, and their prices."""


@model.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="What clients call it.")
@click.option("--owned-by", default="farebox", show_default=True)
@json_option
def add(folder: Path, name: str, owned_by: str, as_json: bool) -> None:
    """Offer a Hugging Face folder, at the default price; running servers load it at once.

    A LoRA adapter as peft saves it is offered as BASE:ADAPTER, where BASE is a model on offer.

    Under a name that is taken, requests that come in go to the new folder, and those under way
    finish on the former one.
    """

    async def work(operation: Operation) -> dict[str, Any]:
        if not (len(name) <= 256 and NAME.fullmatch(name)):
            raise BadRequest(
                "A model's name has 1 to 256 letters, digits and . _ - / : without spaces, and begins with"
                " a letter or a digit."
            )
        if ":" in name and base_of(name, folder) is None:
            raise BadRequest(
                f"{folder} is a whole model; a name with a colon, BASE:ADAPTER, is for an adapter of BASE."
            )
        found = await offer_checkpoint(operation.database, operation.settings, folder, name, owned_by)
        return {
            "id": name,
            "path": str(found.path),
            "sha256": found.sha256,
            "context_length": found.context_length,
            "parameters": found.parameters,
        }

    added = operate(work)
    if as_json:
        answer_json(added)
    else:
        click.echo(
            f"{name} is on offer: {added['parameters']:,} parameters,"
            f" {added['context_length']:,} tokens of context."
        )


@model.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Models that can be called, with what a million tokens of each class cost now."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            offers = await active_models(session)
            prices = await current_prices(session)
        return [_describe(offer, prices.get(offer.id)) for offer in offers if _has_base(offer, offers)]

    answer_rows(operate(work), as_json=as_json, nothing="No model; `farebox model add DIR --name NAME`.")


def _has_base(offer: ModelOffer, offers: Sequence[ModelOffer]) -> bool:
    """Whether it can be called: an adapter whose base is no longer on offer cannot."""
    base = base_of(offer.id, Path(offer.path))
    return base is None or base in {each.id for each in offers}


def _describe(offer: ModelOffer, price: Price | None) -> dict[str, Any]:
    return {
        "id": offer.id,
        "input": plain(price.input_per_million, price.currency) if price else None,
        "cached_input": plain(price.cached_input_per_million, price.currency) if price else None,
        "output": plain(price.output_per_million, price.currency) if price else None,
        "currency": price.currency if price else None,
        "context_length": offer.context_length,
        "path": offer.path,
    }


@model.command()
@click.argument("name")
@click.option("--input", "input_", required=True, help="Per million input tokens.")
@click.option(
    "--cached-input", help="Per million input tokens found in the prefix cache; as --input if absent."
)
@click.option("--output", required=True, help="Per million output tokens.")
@click.option(
    "--from",
    "effective_from",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="When it takes effect, in UTC; now if absent.",
)
@json_option
def price(
    name: str,
    input_: str,
    cached_input: str | None,
    output: str,
    effective_from: datetime | None,
    as_json: bool,
) -> None:
    """Set a price from now or a date on. What was admitted before is billed at the former one."""
    start = effective_from.replace(tzinfo=UTC) if effective_from else None

    async def work(operation: Operation) -> str:
        async with operation.database.meter_transaction() as session:
            price_id = await set_price(
                session,
                name,
                input_per_million=parse_price(input_),
                cached_input_per_million=parse_price(cached_input or input_),
                output_per_million=parse_price(output),
                currency=operation.settings.currency,
                effective_from=start,
            )
        return str(price_id)

    price_id = operate(work)
    if as_json:
        answer_json({"price_id": price_id})
    else:
        click.echo(f"{name} has a new price from {iso(start) if start else 'now'} on.")


@model.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Offer a model no longer; requests under way finish."""

    async def work(operation: Operation) -> None:
        async with operation.database.meter_transaction() as session:
            await remove_model(session, name)

    operate(work)
    if as_json:
        answer_json({"id": name, "removed": True})
    else:
        click.echo(f"{name} is no longer on offer.")
