"""`farebox invoice`: months closed, documents shown, payments and credit notes."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.billing.invoices.credit_notes import Part
from farebox.billing.invoices.credit_notes import credit as take_back
from farebox.billing.invoices.documents.document import InvoiceDocument, from_json
from farebox.billing.invoices.documents.layout import lay_out
from farebox.billing.invoices.documents.pdf import to_pdf
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.month_end import close_for_all
from farebox.billing.invoices.payments import pay as take_in
from farebox.billing.invoices.payments import write_off
from farebox.billing.invoices.reading import all_invoices, credit_notes_on, find_by_number
from farebox.billing.invoices.reading import preview as look_ahead
from farebox.billing.invoices.schemas import details_of, summary_of
from farebox.billing.months import Month, month_of
from farebox.cli import identifiers
from farebox.cli.billing_details import details
from farebox.cli.errors import CommandFailed
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import utc_now
from farebox.core.ids import external
from farebox.core.money import plain


@click.group()
def invoice() -> None:
    """Invoices, statements and credit notes."""


invoice.add_command(details)


@invoice.command("list")
@click.option("--organization", type=identifiers.organization_id, help="By default all.")
@click.option("--status", type=click.Choice(["open", "paid", "void", "uncollectible", "final"]))
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@json_option
def list_(organization: UUID | None, status: str | None, limit: int, as_json: bool) -> None:
    """All documents, newest first."""

    async def work(operation: Operation) -> Sequence[Invoice]:
        async with operation.database.meter_transaction() as session:
            return await all_invoices(session, organization_id=organization, status=status, at_most=limit)

    answer_rows([_row(each) for each in operate(work)], as_json=as_json, nothing="There are none.")


@invoice.command()
@click.argument("number")
@json_option
def show(number: str, as_json: bool) -> None:
    """One document, as it was issued, and what has become of it."""

    async def work(operation: Operation) -> tuple[Invoice, Sequence[Invoice]]:
        async with operation.database.meter_transaction() as session:
            found = await find_by_number(session, number)
            return found, await credit_notes_on(session, found)

    found, notes = operate(work)
    if as_json:
        answer_json(details_of(found, notes))
        return
    _print(from_json(found.document))
    click.echo(f"{found.status}, {plain(found.outstanding, found.currency)} {found.currency} open")
    for each in notes:
        click.echo(f"credit note {each.number}: {plain(each.total, each.currency)} {each.currency}")


@invoice.command()
@click.argument("organization", type=identifiers.organization_id)
@click.option("--month", type=identifiers.MONTH, help="Such as 2026-11 (UTC); by default this one.")
@json_option
def preview(organization: UUID, month: Month | None, as_json: bool) -> None:
    """What an organization's document of a month would say now. Nothing is booked."""

    async def work(operation: Operation) -> InvoiceDocument:
        async with operation.database.meter_transaction() as session:
            return await look_ahead(session, organization, month or month_of(utc_now()), operation.settings)

    document = operate(work)
    if as_json:
        answer_json(document)
    else:
        _print(document)


@invoice.command()
@click.option("--organization", type=identifiers.organization_id, help="By default all that did something.")
@click.option("--month", type=identifiers.MONTH, help="Such as 2026-11 (UTC); by default the last one.")
@json_option
def close(organization: UUID | None, month: Month | None, as_json: bool) -> None:
    """Close a month that is over, as the worker does. What is closed already stays as it is.

    The exit status is 1 if something could not be closed.
    """
    chosen = month or month_of(month_of(utc_now()).start - timedelta(days=1))

    async def work(operation: Operation) -> list[dict[str, Any]]:
        closed = await close_for_all(operation.database, chosen, operation.settings, only=organization)
        return [
            {
                "organization_id": external("org", each.organization_id),
                "number": each.number,
                "reason": each.reason,
            }
            for each in closed
        ]

    rows = operate(work)
    answer_rows(rows, as_json=as_json, nothing=f"Nothing is left to be closed of {chosen}.")
    if any(row["reason"] for row in rows):
        raise CommandFailed("Not everything was closed; the column `reason` says why.")


@invoice.command()
@click.argument("number")
@click.argument("amount", type=identifiers.amount)
@click.option("--reference", required=True, help="Whose payment it is, for example the bank's; counted once.")
@json_option
def pay(number: str, amount: Decimal, reference: str, as_json: bool) -> None:
    """Take in a payment of an invoice. The same reference again changes nothing."""

    async def work(operation: Operation) -> tuple[Invoice, bool]:
        async with operation.database.meter_transaction() as session:
            return await take_in(session, number, amount=amount, reference=reference)

    paid, taken = operate(work)
    if as_json:
        answer_json({"taken_in": taken} | _row(paid))
    else:
        said = "Taken in" if taken else "Taken in before, under this reference"
        click.echo(f"{said}. {number} is {paid.status}, {plain(paid.outstanding, paid.currency)} open.")


@invoice.command()
@click.argument("number")
@click.option("--line", type=click.IntRange(1), help="One line, counted from 1; by default all that is left.")
@click.option("--amount", type=identifiers.amount, help="A part of that line; by default all of it.")
@click.option("--reason", required=True, help="It stands on the credit note, and is counted once.")
@json_option
def credit(number: str, line: int | None, amount: Decimal | None, reason: str, as_json: bool) -> None:
    """Make a credit note on an invoice: of a line, or of all that is left."""
    if amount is not None and line is None:
        raise click.UsageError("--amount needs --line.")
    part = None if line is None else Part(line, amount)

    async def work(operation: Operation) -> Invoice:
        async with operation.database.meter_transaction() as session:
            return await take_back(session, number, reason=reason, settings=operation.settings, part=part)

    note = operate(work)
    if as_json:
        answer_json(_row(note))
    else:
        click.echo(f"{note.number}: {plain(note.total, note.currency)} {note.currency} of {number}.")


@invoice.command()
@click.argument("number")
@json_option
def uncollectible(number: str, as_json: bool) -> None:
    """Expect no payment of an invoice any more. It stays owed."""

    async def work(operation: Operation) -> Invoice:
        async with operation.database.meter_transaction() as session:
            return await write_off(session, number)

    found = operate(work)
    if as_json:
        answer_json(_row(found))
    else:
        click.echo(f"{number} is uncollectible.")


@invoice.command()
@click.argument("number")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; by default the number, in this directory.",
)
@json_option
def pdf(number: str, output: Path | None, as_json: bool) -> None:
    """Write a document as PDF."""

    async def work(operation: Operation) -> Invoice:
        async with operation.database.meter_transaction() as session:
            return await find_by_number(session, number)

    made, place = to_pdf(from_json(operate(work).document)), output or Path(f"{number}.pdf")
    try:
        place.write_bytes(made)
    except OSError as error:
        raise CommandFailed(f"{place} cannot be written: {error.strerror}.") from None
    if as_json:
        answer_json({"path": str(place), "bytes": len(made)})
    else:
        click.echo(f"{place} written.")


def _row(invoice: Invoice) -> dict[str, Any]:
    told = summary_of(invoice)
    return {
        "number": told.number,
        "organization_id": external("org", invoice.organization_id),
        "month": told.month,
        "kind": told.kind,
        "status": told.status,
        "total": told.total,
        "due": told.amount_due,
        "open": told.amount_open,
        "currency": told.currency,
        "due_on": told.due_on,
    }


def _print(document: InvoiceDocument) -> None:
    laid = lay_out(document)
    click.secho(laid["title"], bold=True)
    for name, value in laid["facts"]:
        click.echo(f"{name}: {value}")
    for who, lines in laid["parties"]:
        click.echo(f"{who}: {', '.join(lines)}")
    rows = [dict(zip(laid["columns"], line, strict=True)) for line in laid["lines"]]
    answer_rows(rows, as_json=False, nothing=laid["nothing"])
    for name, value in [*laid["sums"], *laid["balance"]]:
        click.echo(f"{name}: {value}")
