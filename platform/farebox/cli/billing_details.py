"""`farebox invoice details`: whom an organization's invoices are made out to."""

from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from farebox.billing.invoices.parties import Details, billing_details, set_billing_details
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, json_option, operate
from farebox.core.errors import BadRequest, NotFound
from farebox.core.validation import fault_of
from farebox.tenants.organizations import find_organization


@click.command()
@click.argument("organization", type=identifiers.organization_id)
@click.option("--name", help="The legal name.")
@click.option("--address", help="The lines of the address, parted by `;`.")
@click.option("--country", help="Two letters (ISO 3166).")
@click.option("--tax-id", help="The tax number.")
@click.option("--email", help="Where invoices are sent.")
@click.option("--language", type=click.Choice(["en", "zh-Hans"]), help="Of the invoices.")
@json_option
def details(organization: UUID, address: str | None, as_json: bool, **named: str | None) -> None:
    """Whom an organization's invoices are made out to; with options, set these and leave the others.

    An empty text takes one away.
    """
    given: dict[str, Any] = {name: value or None for name, value in named.items() if value is not None}
    if address is not None:
        given["address"] = [line.strip() for line in address.split(";") if line.strip()]

    async def work(operation: Operation) -> Details:
        async with operation.database.transaction(organization_id=organization) as session:
            if await find_organization(session, organization) is None:
                raise NotFound("No such organization.", code="not_found")
            now = await billing_details(session, organization)
            if not given:
                return now
            changed = _changed(now, given)
            await set_billing_details(session, organization, changed, actor_id=None)
            return changed

    found = operate(work)
    if as_json:
        answer_json(found)
    else:
        for name, value in msgspec.structs.asdict(found).items():
            written = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' ')}: {written or '–'}")


def _changed(now: Details, given: dict[str, Any]) -> Details:
    """Raises BadRequest that names what is wrong."""
    try:
        return msgspec.convert(msgspec.structs.asdict(now) | given, Details)
    except msgspec.ValidationError as error:
        fault = fault_of(error)
        raise BadRequest(f"`{fault.path}` is wrong: {fault.reason}.", param=fault.path) from None
