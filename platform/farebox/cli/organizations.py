"""`farebox org`."""

from decimal import Decimal
from typing import Any

import rich_click as click

from farebox.cli.ceilings import ceilings
from farebox.cli.funds import accounts, credit, credit_line, debit, grant
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso
from farebox.core.errors import NotFound
from farebox.core.ids import external, new_id
from farebox.core.money import plain
from farebox.limits.balances import Balance, balances
from farebox.tenants.accounts import find_user
from farebox.tenants.names import clean_email
from farebox.tenants.organizations import create_organization, list_organizations


@click.group()
def org() -> None:
    """Organizations: the tenants."""


for command in (ceilings, credit, debit, grant, credit_line, accounts):
    org.add_command(command)


@org.command()
@click.argument("name")
@click.option("--owner", metavar="EMAIL", help="A user who has signed up already.")
@json_option
def create(name: str, owner: str | None, as_json: bool) -> None:
    """Found an organization with a project named Default."""

    async def work(operation: Operation) -> dict[str, str]:
        organization_id = new_id()
        email = clean_email(owner) if owner else None
        async with operation.database.transaction(organization_id=organization_id, email=email) as session:
            user = await find_user(session, email) if email else None
            if owner and user is None:
                raise NotFound(f"Nobody has signed up as {owner}.")
            founded = await create_organization(
                session, organization_id=organization_id, name=name, owner_id=user.id if user else None
            )
        return {
            "organization_id": external("org", founded.organization_id),
            "project_id": external("proj", founded.project_id),
        }

    made = operate(work)
    if as_json:
        answer_json(made)
    else:
        click.echo(f"{made['organization_id']} founded, with the project {made['project_id']}.")


@org.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All organizations with their balance."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            held = await balances(session)
            return [
                {
                    "id": external("org", organization.id),
                    "name": organization.name,
                    "status": organization.status,
                    "balance": _describe_balance(held.get(organization.id), operation.settings.currency),
                    "created_at": iso(organization.created_at),
                }
                for organization in await list_organizations(session)
            ]

    answer_rows(operate(work), as_json=as_json, nothing="No organization yet; `farebox org create NAME`.")


def _describe_balance(balance: Balance | None, currency: str) -> str:
    """Nothing was ever paid in yet: nothing, in the currency of this installation."""
    if balance is None:
        return plain(Decimal(0), currency)
    return plain(balance.amount, balance.currency or currency)
