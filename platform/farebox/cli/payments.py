"""`farebox stripe`."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import rich_click as click

from farebox.billing.stripe.account import Account
from farebox.billing.stripe.checkout import PREFIX
from farebox.billing.stripe.events.connecting import connect as connect_account
from farebox.billing.stripe.events.inbox import list_events, revive
from farebox.billing.stripe.reversals.refunds import order_refund
from farebox.billing.stripe.sweeping import LOOK_BACK, sweep_account
from farebox.billing.stripe.top_ups import list_top_ups
from farebox.cli import identifiers
from farebox.cli.errors import CommandFailed
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso
from farebox.core.database import present
from farebox.core.ids import external
from farebox.core.money import plain

STATES = ("pending", "done", "ignored", "dead")

Result = TypeVar("Result")


@click.group()
def stripe() -> None:
    """Payments: what Stripe told, what to try again, refunds."""


@stripe.command()
@json_option
def connect(as_json: bool) -> None:
    """Tell Stripe where to send its events, and get the secret that signs them."""

    async def work(operation: Operation, account: Account) -> dict[str, str]:
        made = await connect_account(account, operation.settings)
        endpoint = made["webhook_endpoint"]
        return {"destination": made["id"], "url": endpoint["url"], "secret": endpoint["signing_secret"]}

    made = _with_account(work)
    if as_json:
        answer_json(made)
        return
    click.echo(f"{made['destination']} sends to {made['url']}. Keep this; it is not told again:\n")
    click.echo(f"FAREBOX_STRIPE_WEBHOOK_SECRET={made['secret']}")


@stripe.command()
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="By default dead ones.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def events(states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """What Stripe told, newest first, and what came of it."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            rows = await list_events(session, states or ("dead",), limit)
        return [
            {
                "id": row.id,
                "type": row.type,
                "object": row.object_id,
                "state": row.state,
                "attempts": row.attempts,
                "note": row.note,
                "received_at": iso(row.received_at),
            }
            for row in rows
        ]

    answer_rows(operate(work), as_json=as_json, nothing="There are none.")


@stripe.command()
@click.argument("event", required=False)
@json_option
def retry(event: str | None, as_json: bool) -> None:
    """Work off EVENT once more, or all that are dead."""

    async def work(operation: Operation) -> int:
        async with operation.database.meter_transaction() as session:
            return await revive(session, event)

    number = operate(work)
    if as_json:
        answer_json({"retried": number})
    else:
        click.echo(f"{number} to be worked off again." if number else "None is dead.")


@stripe.command()
@json_option
def sweep(as_json: bool) -> None:
    """Compare the last week at Stripe with the books now, as the worker does once a day."""

    async def work(operation: Operation, account: Account) -> int:
        async with operation.database.meter_transaction() as session:
            since = await present(session) - LOOK_BACK
        return await sweep_account(account, operation.database, since)

    found = _with_account(work)
    if as_json:
        answer_json({"followed": found})
    else:
        click.echo(f"{found} payments, refunds and disputes compared.")


@stripe.command("top-ups")
@click.argument("organization", type=identifiers.organization_id)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def top_ups(organization: UUID, limit: int, as_json: bool) -> None:
    """An organization's top-ups, newest first."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            rows = await list_top_ups(session, organization, limit=limit)
        return [
            {
                "id": external(PREFIX, row.id),
                "kind": row.kind,
                "state": row.state,
                "amount": plain(row.amount, row.currency),
                "tax": plain(row.tax, row.currency),
                "currency": row.currency,
                "payment": row.payment_intent,
                "created_at": iso(row.created_at),
            }
            for row in rows
        ]

    answer_rows(operate(work), as_json=as_json, nothing="There are none.")


@stripe.command()
@click.argument("top_up", type=identifiers.top_up_id)
@click.argument("amount", type=identifiers.amount, required=False)
@json_option
def refund(top_up: UUID, amount: Decimal | None, as_json: bool) -> None:
    """Send AMOUNT of a top-up back to its payer, by default what is left of it; the worker asks Stripe.

    Tax goes back in proportion. What is spent does not go back.
    """

    async def work(operation: Operation) -> dict[str, str]:
        async with operation.database.meter_transaction() as session:
            made = await order_refund(session, top_up, amount=amount)
        currency = operation.settings.currency
        return {
            "refund": external("refund", made.id),
            "credit": plain(made.credit, currency),
            "tax": plain(made.tax, currency),
        }

    made = operate(work)
    if as_json:
        answer_json(made)
    else:
        click.echo(f"{made['credit']} leaves the balance and goes back, with {made['tax']} of tax.")


def _with_account(work: Callable[[Operation, Account], Awaitable[Result]]) -> Result:
    """Raises CommandFailed where payments are off."""

    async def with_account(operation: Operation) -> Result:
        account = Account.of(operation.settings)
        if account is None:
            raise CommandFailed("Payments are off: set FAREBOX_STRIPE_API_KEY.")
        try:
            return await work(operation, account)
        finally:
            account.close()

    return operate(with_account)
